/** A number from the environment: how long an attack lasts, which seed it has. */
export function countFrom(name: string, otherwise: number): number {
  const text = process.env[name];
  if (text === undefined || text === '') return otherwise;
  if (!/^[1-9][0-9]{0,8}$/.test(text)) throw new Error(`${name}=${text} is not a number from 1`);
  return Number(text);
}
