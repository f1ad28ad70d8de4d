-- SPDX-License-Identifier: GPL-3.0-or-later
-- Copyright (c) 2026, the locki.vaettir authors
--
-- For wrk: 40 small assets in turn, and one line of JSON at the end.

local number = 0

function request()
    number = (number + 1) % 40
    return wrk.format("GET", string.format("/bench/%02d.txt", number))
end

function done(summary, latency, _)
    local errors = summary.errors
    print(string.format(
        '{"requests": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "errors": %d}',
        summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
