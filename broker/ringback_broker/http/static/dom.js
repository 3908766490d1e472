// Small helps for the elements of the page. All text is set as text, never as HTML.

export const $ = (id) => document.getElementById(id);

/** Return a new element with properties and children. */
export function made(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Change the address, and with it the view: as a step to go back to, or in the place of the present one. */
export function goTo(address, replaces = false) {
  if (replaces) history.replaceState(null, "", address);
  else history.pushState(null, "", address);
  dispatchEvent(new HashChangeEvent("hashchange"));
}

/** Show the figures of one thing as a list of names and values: [name, text, title?]. Keep the elements. */
export function showFigures(list, figures) {
  const names = figures.map(([name]) => name).join("\n");
  if (list.dataset.names !== names) {
    list.dataset.names = names;
    list.replaceChildren(
      ...figures.map(([name, , title]) => made("div", { title: title ?? "" }, made("dt", { textContent: name }), made("dd"))),
    );
  }
  figures.forEach(([, text], index) => setText(list.children[index].lastElementChild, text));
}
