"""The rules of a small game: players dig for gold in a river, and buy shovels."""

from ringback import CallbackError

RIVER = [place**3 % 97 for place in range(200)]  # how much gold there is at each place
SHOVEL = 50  # what a shovel costs


def add_game(server):
    river, purses, shovels = list(RIVER), {}, {}

    @server.register_server_callback("gold:dig")
    def dig(source, place):
        if type(place) is not int or not 0 <= place < len(river):
            raise CallbackError(f"the places are 0 to {len(river) - 1}", code="NO_SUCH_PLACE")
        found, river[place] = river[place], 0
        purses[source] = purses.get(source, 0) + found
        return found

    @server.register_server_callback("gold:best")
    async def best(source, payload):
        richest = sorted(purses, key=lambda player_id: purses[player_id], reverse=True)[:3]
        calls = await server.trigger_all_client_callbacks("bot:name", players=richest, timeout=5.0)
        names = {player_id: "?" if call.error else call.result() for player_id, call in calls.items()}
        return [[names[player_id], purses[player_id]] for player_id in richest]

    @server.register_server_callback("gold:purse")
    def purse(source, payload):
        return {"gold": purses.get(source, 0), "shovels": shovels.get(source, 0)}

    @server.register_server_callback("gold:buy")
    async def buy(source, payload):
        if purses.get(source, 0) < SHOVEL:
            raise CallbackError(f"a shovel costs {SHOVEL}", code="TOO_POOR")
        purses[source] -= SHOVEL  # before the await: no other call can spend this gold
        agreed = False
        try:
            agreed = await server.trigger_client_callback("bot:confirm", source, SHOVEL) is True
        finally:  # also if the player leaves, answers too late, or gives up
            if agreed:
                shovels[source] = shovels.get(source, 0) + 1
            else:
                purses[source] += SHOVEL
        return agreed
