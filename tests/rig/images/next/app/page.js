'use client';

import {useActionState} from 'react';
import {leave, tins} from './actions';

export default function Page() {
  const [answer, count] = useActionState(tins, '');
  return <>
    <h1>Ocapistaine</h1>
    <form action={count}>
      <label>Sardines <input name="fish" type="number" defaultValue="7" /></label>
      <button>Tins</button>
    </form>
    <p>{answer}</p>
    <form action={leave}><button>Leave</button></form>
  </>;
}
