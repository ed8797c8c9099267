-- 50,000 announces, written beforehand: 5 peers in each of 10,000 swarms, some swarms far more often than others. An argument is
-- the pause before each request of a connection, in milliseconds.
local swarms, peers = 10000, 5
local requests = {}
refused_count, empty_count = 0, 0 -- global, so that done() can read them

local function escaped(n)
    return string.format("%%%02x%%%02x%%%02x%%%02x", n / 16777216 % 256, n / 65536 % 256, n / 256 % 256, n % 256)
end

function init(args)
    if args[1] then
        function delay() return tonumber(args[1]) end
    end
    for n = 0, swarms * peers - 1 do
        local swarm, peer = n % swarms, math.floor(n / swarms)
        requests[n] = wrk.format("GET", string.format(
            "/announce?info_hash=aaaaaaaaaaaaaaaa%s&peer_id=-XX0001-aaaa%s%s&port=%d&uploaded=0&downloaded=0" ..
            "&left=%d&numwant=30&compact=1&ip=10.%d.%d.%d",
            escaped(swarm), escaped(swarm), escaped(peer), 1024 + peer, n % 3, peer, swarm / 250, swarm % 250))
    end
end

local n = 0
function request()
    n = n + 1
    -- Half of the requests go through all peers in turn; the other half are random and prefer the first swarms.
    if n % 2 == 0 then
        return requests[n / 2 % (swarms * peers)]
    end
    return requests[math.floor(math.random() ^ 4 * swarms) + swarms * math.random(0, peers - 1)]
end

function response(status, _, body)
    if body:find("failure reason", 1, true) or body:sub(1, 1) ~= "d" or body:sub(-1) ~= "e" then
        refused_count = refused_count + 1
    elseif not body:find("5:peers", 1, true) then
        empty_count = empty_count + 1
    end
end

local threads = {}
function setup(thread) table.insert(threads, thread) end

function done()
    local r, e = 0, 0
    for _, thread in ipairs(threads) do
        r, e = r + (thread:get("refused_count") or 0), e + (thread:get("empty_count") or 0)
    end
    print("refused: " .. r)
    print("without peers: " .. e)
end
