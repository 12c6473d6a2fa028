// useDashboard: what the page knows of each card: its data, its error, whether it is loading; and when it ran.
//
//   const dashboard = useDashboard((state, name) => { … draw, all or the card of that name … });
//   dashboard.load();
//   dashboard.cards.user.loading, dashboard.cards.user.data, dashboard.retry("user")

const names = ["user", "config", "analytics", "posts"];

const blank = () => Object.fromEntries(names.map((name) => [name, { data: null, error: null, loading: true, times: null }]));

export function useDashboard(changed) {
  const state = { cards: blank(), total: null, lost: false };
  let source = null;

  const settle = (card) => {
    state.cards[card.name] = {
      data: card.data ?? null,
      error: card.error ?? null,
      loading: false,
      times: card.times ?? state.cards[card.name].times,
    };
    changed(state, card.name);
  };

  // Closing the old stream cancels on the server what was still being loaded for it.
  const load = () => {
    source?.close();
    Object.assign(state, { cards: blank(), total: null, lost: false });
    changed(state);
    source = new EventSource("/api/dashboard/events");
    source.addEventListener("card", (event) => settle(JSON.parse(event.data)));
    source.addEventListener("end", (event) => {
      source.close();
      state.total = JSON.parse(event.data).total;
      changed(state);
    });
    source.onerror = () => {
      source.close();
      state.lost = true;
      for (const name of names) {
        if (state.cards[name].loading) {
          settle({ name, error: "the connection was lost" });
        }
      }
      changed(state);
    };
  };

  const retry = async (name) => {
    state.cards[name] = { ...state.cards[name], error: null, loading: true };
    changed(state, name);
    try {
      const response = await fetch("/api/cards/" + name);
      const card = await response.json();
      settle(response.ok ? { ...card, times: undefined } : { name, error: card.error });
    } catch {
      settle({ name, error: "the server does not answer" });
    }
  };

  return {
    state,
    get cards() {
      return state.cards;
    },
    load,
    retry,
  };
}
