// SPDX-License-Identifier: GPL-3.0-or-later
// Copyright (c) 2026, the locki.vaettir authors
//
// The tunnel's errors, and only those, become the offline page. nginx calls the exported functions.
// njs is not all of JavaScript: no for-of, no destructuring.

import crypto from 'crypto';
import fs from 'fs';

// njs runs a module's top level for every request, so all that most requests do without stands in here.
function lazy() {
    const PAGE = '/etc/nginx/page.html';
    const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE;

    const RETRY_AFTER = { offline: 5, app: 5, limit: 60, quota: 3600, refused: 3600, maintenance: 60, stopped: 5, busy: 10 };

    // --- The page -------------------------------------------------------------------------------------------------

    function preferred(accepted, choices) {
        let best = choices[0], quality = 0;
        (accepted || '').toLowerCase().split(',').forEach((part) => {
            const words = part.split(';').map((word) => word.trim());
            const language = words[0].split('-')[0];
            const q = words.filter((word) => word.startsWith('q='))[0];
            const value = q ? Number(q.slice(2)) || 0 : 1;
            if (value > quality && choices.indexOf(language) >= 0) {
                best = language;
                quality = value;
            }
        });
        return best;
    }

    // <!--[offline en]-->…<!--[]--> stays for this state and language only; several of a kind are separated by |, * is any.
    function pick(html, state, language) {
        const fits = (wanted, have) => wanted === '*' || wanted.split('|').indexOf(have) >= 0;
        return html.replace(/<!--\[([a-z|*]+) ([a-z*]+)\]-->([\s\S]*?)<!--\[\]-->\n?/g, (_, states, languages, text) =>
            fits(states, state) && fits(languages, language) ? text : '');
    }

    function hashes(html, tag) {
        const found = [];
        html.replace(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'), (_, text) => {
            found.push(`'sha256-${crypto.createHash('sha256').update(text).digest('base64')}'`);
            return '';
        });
        return found.join(' ') || "'none'";
    }

    // The policy in the first line, then the page.
    function htmlPage(agent, language, state, code) {
        const html = pick(fs.readFileSync(PAGE, 'utf8'), state, language)
            .replace(/@AGENT@/g, agent).replace(/@LANGUAGE@/g, language).replace(/@STATE@/g, state).replace(/@CODE@/g, code);
        return `default-src 'none'; style-src ${hashes(html, 'style')}; script-src ${hashes(html, 'script')}; ` +
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\n" + html;
    }

    function htmlAnswer(r, state, code) {
        const language = preferred(r.headersIn['Accept-Language'], ['en', 'fr']);
        const pages = ngx.shared.pages, agent = r.variables.agent_name;
        const key = `${agent} ${language} ${state} ${code} ${vaettir.page}`;
        let page = pages.get(key);
        if (!page) {
            page = htmlPage(agent, language, state, code);
            try {
                pages.set(key, page);
            } catch (_) {
                // Somebody's own page is larger than the zone: it is made every time.
            }
        }
        const end = page.indexOf('\n');
        return {
            body: page.slice(end + 1),
            headers: {
                'Content-Type': 'text/html',
                'Content-Language': language,
                'Content-Security-Policy': page.slice(0, end),
                'Referrer-Policy': 'no-referrer',
            },
        };
    }

    function jsonAnswer(r, state, code) {
        const facts = { error: 'agent_unavailable', agent: r.variables.agent_name, state: state };
        if (code) {
            facts.ngrok_error_code = code;
        }
        if (vaettir.discord) {
            facts.discord = vaettir.discord;
        }
        facts.retry_after = RETRY_AFTER[state];
        return { body: JSON.stringify(facts) + '\n', headers: { 'Content-Type': 'application/json' } };
    }

    function textAnswer(r, state) {
        return { body: `${r.variables.agent_name}: ${state}\n`, headers: { 'Content-Type': 'text/plain' } };
    }

    function answer(r, state, code) {
        const accept = (r.headersIn.Accept || '').toLowerCase();
        const wantsJson = /application\/([a-z.-]+\+)?json/.test(accept) && accept.indexOf('text/html') < 0;
        const form = r.variables.upgrade ? textAnswer : wantsJson ? jsonAnswer : htmlAnswer;
        const made = form(r, state, code);
        // nginx repeats the charset of the answer that this one replaces.
        if (!/charset=/i.test(r.variables.upstream_http_content_type || '')) {
            made.headers['Content-Type'] += '; charset=utf-8';
        }
        made.headers['Retry-After'] = String(RETRY_AFTER[state]);
        made.headers['Cache-Control'] = 'no-store';
        made.headers['Vary'] = 'Accept, Accept-Language';
        made.headers['X-Robots-Tag'] = 'noindex';
        made.headers['X-Content-Type-Options'] = 'nosniff';
        made.headers['X-Vaettir-State'] = state;
        return made;
    }

    // A code is shown and logged only if it looks like one.
    function known(code) {
        return /^ERR_NGROK_[0-9]{1,5}$/.test(code) ? code : '';
    }

    // --- In place of no answer ------------------------------------------------------------------------------------

    function send(r, state) {
        const made = answer(r, state, '');
        for (const name in made.headers) {
            r.headersOut[name] = made.headers[name];
        }
        r.return(state === 'busy' ? 429 : 503, made.body);
    }

    function unreachable(r) {
        const state = r.variables.unreachable_state;
        noteOutage(state);
        send(r, state);
    }

    function maintenance(r) {
        send(r, 'maintenance');
    }

    function busy(r) {
        send(r, 'busy');
    }

    // The page container, for an agent whose own container does not run.
    function stopped(r) {
        send(r, 'stopped');
    }

    // --- The way back: the page of a waiting visitor asks, one probe answers all of them --------------------------------

    // How long between two probes, by the age of the outage. A forgotten tab: 382 requests on its first day, 96 a day later.
    function interval(state, age) {
        if (age >= 6 * HOUR) {
            return 15 * MINUTE;
        }
        if (age >= HOUR) {
            return 5 * MINUTE;
        }
        const patient = state === 'limit' || state === 'quota' || state === 'refused';
        return patient || age >= 10 * MINUTE ? MINUTE : 3 * SECOND;
    }

    function readOutage(now) {
        const outage = JSON.parse(ngx.shared.vaettir.get('outage') || 'null');
        // Nobody has met it for longer than anybody waits: if there is one, it is another.
        return outage && now - outage.last > HOUR ? null : outage;
    }

    function noteOutage(state) {
        const now = Date.now();
        const outage = readOutage(now) || { since: now };
        outage.last = now;
        outage.state = state;
        ngx.shared.vaettir.set('outage', JSON.stringify(outage));
        return outage;
    }

    function outageIsOver() {
        ngx.shared.vaettir.delete('outage');
        // The next one is asked about soon, whatever the pace of this one was.
        ngx.shared.vaettir.set('turn', '1', 3 * SECOND);
    }

    function sayStatus(r, status) {
        r.headersOut['Content-Type'] = 'application/json';
        r.headersOut['Cache-Control'] = 'no-store';
        r.return(200, JSON.stringify(status) + '\n');
    }

    async function status(r) {
        const now = Date.now();
        let outage = readOutage(now);
        if (!outage) {
            sayStatus(r, { up: true });
            return;
        }
        const wait = interval(outage.state, now - outage.since);
        const shared = ngx.shared.vaettir;
        // Whoever gets the turn makes the probe; the others hear what is known.
        if (shared.add('turn', '1', wait)) {
            shared.set('probe', String(now));
            shared.set('busy', '1', 9 * SECOND);
            const reply = await r.subrequest('/__vaettir/probe', { method: 'HEAD' });
            shared.delete('busy');
            const state = reply.headersOut['X-Vaettir-State'];
            if (!state && reply.status !== 502 && reply.status !== 504) {
                outageIsOver();
                sayStatus(r, { up: true });
                return;
            }
            outage = noteOutage(state || r.variables.unreachable_state);
        }
        const next = Number(shared.get('probe') || 0) + interval(outage.state, Date.now() - outage.since) - Date.now();
        // While the probe is under way the others ask again at once, or they would be back a whole interval later.
        sayStatus(r, { up: false, state: outage.state, next: shared.has('busy') ? 500 : Math.max(next, 500) });
    }

    function maintenanceStatus(r) {
        sayStatus(r, { up: false, state: 'maintenance', next: 10 * SECOND });
    }

    // Traefik asks the agent's own container again as soon as it runs.
    function stoppedStatus(r) {
        sayStatus(r, { up: false, state: 'stopped', next: 3 * SECOND });
    }

    // An ngrok error: the page in place of the answer.
    function replace(r, code) {
        const state = r.variables.tunnel_state;
        const made = answer(r, state, known(code));
        for (const name in r.headersOut) {
            delete r.headersOut[name];
        }
        for (const name in made.headers) {
            r.headersOut[name] = made.headers[name];
        }
        r.headersOut['Content-Length'] = String(Buffer.byteLength(made.body));
        r.status = 503;
        r.variables.vaettir_page = made.body;
        noteOutage(state);
    }

    return { busy, maintenance, maintenanceStatus, outageIsOver, replace, status, stopped, stoppedStatus, unreachable };
}

function headers(r) {
    const code = r.headersOut['ngrok-error-code'];
    if (code !== undefined) {
        lazy().replace(r, code);
        return;
    }
    // Only an answer of the tunnel itself; the cache has some all the time.
    if (ngx.shared.vaettir.has('outage') && !/HIT|STALE|UPDATING/.test(r.variables.upstream_cache_status)) {
        lazy().outageIsOver();
    }
    r.done(); // the body stays out of JavaScript
}

// Reached only by an answer that the page replaces.
function body(r, data, flags) {
    if (flags.last) {
        r.sendBuffer(r.variables.vaettir_page, flags);
    }
}

// The probe's answer, for status().
function probed(r) {
    r.headersOut['X-Vaettir-State'] = r.variables.tunnel_state;
}

// In front of a stored answer (RFC 9111, section 5.1).
function age(r) {
    const now = Math.floor((Date.now() - Date.parse(r.headersOut['Date'])) / 1000);
    r.headersOut['Age'] = String(Math.max(now || 0, Number(r.headersOut['Age']) || 0));
}

// The app has written what the cache may have: the cache forgets it (section 4.4).
function written(r) {
    if (r.headersOut['ngrok-error-code'] === undefined && r.status < 400) {
        const name = crypto.createHash('md5').update(r.variables.asset_key).digest('hex');
        try {
            fs.unlinkSync(`/var/cache/vaettir/${name.slice(-1)}/${name.slice(-3, -1)}/${name}`);
        } catch (_) {
            // It was not there.
        }
    }
    headers(r);
}

const busy = (r) => lazy().busy(r);
const maintenance = (r) => lazy().maintenance(r);
const maintenanceStatus = (r) => lazy().maintenanceStatus(r);
const status = (r) => lazy().status(r);
const stopped = (r) => lazy().stopped(r);
const stoppedStatus = (r) => lazy().stoppedStatus(r);
const unreachable = (r) => lazy().unreachable(r);

export default { age, body, busy, headers, maintenance, maintenanceStatus, probed, status, stopped, stoppedStatus, unreachable, written };
