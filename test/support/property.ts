/**
 * fast-check, for the property tests. CI judges a change by the same cases each time: what fails there fails again. Anywhere
 * else every run tries new ones, and `PROPERTY_SEED=N` repeats the run whose failure named N.
 */
import fc from "fast-check";

const seed = process.env.PROPERTY_SEED ?? (process.env.CI === undefined ? undefined : "1");
if (seed !== undefined) fc.configureGlobal({ seed: Number(seed) });

export default fc;
