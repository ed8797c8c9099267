-- 50 000 announces, prepared: 5 peers in each of 10 000 swarms, the first swarms asked for more often than the last.
local requests = {}
refused_count, empty_count = 0, 0 -- global, so that done() can read them

local function escaped(n)
    return string.format("%%%02x%%%02x%%%02x%%%02x", n / 16777216 % 256, n / 65536 % 256, n / 256 % 256, n % 256)
end

function init()
    math.randomseed(1)
    for n = 1, 50000 do
        local swarm = math.floor((n % 10000) * ((n % 7) / 6)) -- a skew: a seventh of all go to the first
        local peer = n % 5
        requests[n] = wrk.format("GET", string.format(
            "/announce?info_hash=aaaaaaaaaaaaaaaa%s&peer_id=-XX0001-aaaaaaaa%s&port=%d&uploaded=0&downloaded=0" ..
            "&left=%d&numwant=30&compact=1&ip=10.%d.%d.%d",
            escaped(swarm), escaped(n % 5000), 1024 + n % 5000, n % 3, peer, n / 250 % 20, n % 250))
    end
end

local n = 0
function request()
    n = n % 50000 + 1
    return requests[n]
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
