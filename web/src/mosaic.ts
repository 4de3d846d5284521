// Stands in for @uwdata/mosaic-core and mosaic-sql, which only the map of a data base (EmbeddingViewMosaic) needs.
const absent = (): never => {
  throw new Error("this page has no data base");
};
export const coordinator = absent;
export const makeClient = absent;
export const isSelection = (_: unknown): boolean => false;
export type Coordinator = never;
export type Selection = never;
