// The part of React that is used here. React has no types of its own.

/** A piece of a picture. */
export interface Element {
  /** What it was made with. */
  readonly props: unknown;
}

/** What makes a piece of a picture. */
export type Component<Props> = (props: Props) => Element | readonly Element[];

/** Makes a piece of a picture. */
export function createElement<Props>(
  component: Component<Props>,
  props: Props & { readonly key?: string | number },
  ...children: readonly (Element | string)[]
): Element;
