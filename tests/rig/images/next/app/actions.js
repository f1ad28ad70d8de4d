'use server';

import {redirect} from 'next/navigation';

export async function tins(before, form) {
  const fish = Number(form.get('fish'));
  return `${fish} sardines fill ${Math.ceil(fish / 6)} tins`;
}

export async function leave() {
  redirect('/left');
}
