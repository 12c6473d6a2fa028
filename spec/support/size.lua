-- How big the big specs are. Under valgrind, or with a full collection at every wait, a task costs a
-- thousand times what it does otherwise: ALLUA_SPEC_SCALE says by how much to divide.

local size = {}

local default = os.getenv("ALLUA_STRESS_GC") and 500 or 1
size.scale = math.tointeger(os.getenv("ALLUA_SPEC_SCALE")) or default

-- n tasks where the suite runs at full size, fewer where it cannot.
function size.of(n)
  return math.max(10, n // size.scale)
end

-- A bound of so many seconds at full size, wider where everything is slower.
function size.seconds(n)
  return n * size.scale
end

-- Whether a spec may measure: at less than full size the clock says nothing of the project.
size.full = size.scale == 1

return size
