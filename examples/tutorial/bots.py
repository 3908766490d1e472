"""A hundred players in one program. They stay until Ctrl-C."""

import asyncio
import sys

from ringback import LinkError
from ringback.aio import Player


def new_bot(number):
    bot = Player("tcp://127.0.0.1:5770", number)
    bot.register_client_callback("bot:name", lambda payload: f"bot {number}")
    return bot


async def dig(bot):
    first = await bot.trigger_server_callback("gold:dig", 2 * bot.player_id - 2)
    second = await bot.trigger_server_callback("gold:dig", 2 * bot.player_id - 1)
    return first + second


async def main():
    bots = [new_bot(number) for number in range(1, 101)]
    try:
        await asyncio.gather(*(bot.start() for bot in bots))
        found = await asyncio.gather(*(dig(bot) for bot in bots))
        print(len(bots), "bots found", sum(found), "gold", flush=True)
        await asyncio.Event().wait()  # until Ctrl-C
    finally:
        await asyncio.gather(*(bot.close() for bot in bots))


try:
    asyncio.run(main())
except LinkError as error:  # no broker answers, or it refuses
    sys.exit(str(error))
except KeyboardInterrupt:
    pass
