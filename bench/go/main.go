// Go: goroutines with channels, a participant of the benchmark; the workloads are those of workloads.lua.
// A task is a goroutine; what others wait for is a channel that it closes. Arguments: WORKLOAD SIZE
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const leastSeconds = 0.06 // that one measurement takes

type future struct {
	done  chan struct{}
	value int
}

type read func(name string) int

type graph struct {
	tasks  map[string]func(ctx context.Context, self read) (int, error)
	order  []string
	units  int
	verify func(results map[string]int, err error) bool
}

// run starts all tasks and gives what each returned, or the first error, which cancels the others.
func run(g *graph) (map[string]int, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	futures := make(map[string]*future, len(g.order))
	for _, name := range g.order {
		futures[name] = &future{done: make(chan struct{})}
	}
	self := func(name string) int {
		f := futures[name]
		<-f.done
		return f.value
	}
	var group sync.WaitGroup
	var once sync.Once
	var failure error
	group.Add(len(g.order))
	for _, name := range g.order {
		task, own := g.tasks[name], futures[name]
		go func() {
			defer group.Done()
			value, err := task(ctx, self)
			if err != nil {
				once.Do(func() { failure = err; cancel() })
			}
			own.value = value
			close(own.done)
		}()
	}
	group.Wait()
	if failure != nil {
		return nil, failure
	}
	results := make(map[string]int, len(g.order))
	for name, f := range futures {
		results[name] = f.value
	}
	return results, nil
}

func graphOf(count int) *graph {
	g := &graph{units: count, tasks: make(map[string]func(context.Context, read) (int, error), count)}
	for i := 1; i <= count; i++ {
		g.order = append(g.order, fmt.Sprintf("t%07d", i))
	}
	return g
}

func (g *graph) task(name string, fn func(self read) int) {
	g.tasks[name] = func(_ context.Context, self read) (int, error) { return fn(self), nil }
}

func wide(count int) *graph {
	g := graphOf(count)
	for i, name := range g.order {
		value := i + 1
		g.task(name, func(read) int { return value })
	}
	g.verify = func(results map[string]int, _ error) bool {
		sum := 0
		for _, value := range results {
			sum += value
		}
		return sum == count*(count+1)/2
	}
	return g
}

func chain(count int) *graph {
	g := graphOf(count)
	for i, name := range g.order {
		if i+1 < count {
			before := g.order[i+1]
			g.task(name, func(self read) int { return self(before) + 1 })
		} else {
			g.task(name, func(read) int { return 1 })
		}
	}
	g.verify = func(results map[string]int, _ error) bool { return results[g.order[0]] == count }
	return g
}

func layers(depth, width int) *graph {
	g := graphOf(depth * width)
	expected := map[string]int{}
	place := func(layer, i int) string { return g.order[(depth-layer)*width+i%width] }
	for layer := 1; layer <= depth; layer++ {
		for i := 0; i < width; i++ {
			name, value := place(layer, i), i
			if layer == 1 {
				expected[name] = value
				g.task(name, func(read) int { return value })
				continue
			}
			a, b, c := place(layer-1, i), place(layer-1, i+1), place(layer-1, i*7+3)
			expected[name] = (expected[a] + expected[b] + expected[c]) % 1000003
			g.task(name, func(self read) int { return (self(a) + self(b) + self(c)) % 1000003 })
		}
	}
	g.verify = func(results map[string]int, _ error) bool {
		for name, value := range expected {
			if results[name] != value {
				return false
			}
		}
		return true
	}
	return g
}

func dashboard(names ...string) *graph {
	g := graphOf(0)
	g.order, g.units = names, 1
	g.task("config", func(read) int { return 1 })
	g.task("user", func(read) int { return 7 })
	g.task("profile", func(self read) int { return self("user") * 10 })
	g.task("preferences", func(self read) int { return self("user") * 100 })
	g.task("dashboard", func(self read) int { return self("profile") + self("preferences") })
	g.verify = func(results map[string]int, _ error) bool { return results["dashboard"] == 770 }
	return g
}

func reads(count int) *graph {
	g := graphOf(2)
	g.units = count
	g.task(g.order[0], func(read) int { return 3 })
	g.task(g.order[1], func(self read) int {
		sum := 0
		for i := 0; i < count; i++ {
			sum += self(g.order[0])
		}
		return sum
	})
	g.verify = func(results map[string]int, _ error) bool { return results[g.order[1]] == 3*count }
	return g
}

func canceled(count int) *graph {
	g := graphOf(count)
	failure := errors.New("failure")
	for _, name := range g.order {
		g.tasks[name] = func(ctx context.Context, _ read) (int, error) {
			timer := time.NewTimer(time.Minute)
			defer timer.Stop()
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-timer.C:
				return 1, nil
			}
		}
	}
	g.tasks[g.order[count-1]] = func(context.Context, read) (int, error) {
		runtime.Gosched()
		return 0, failure
	}
	g.verify = func(_ map[string]int, err error) bool { return err == failure }
	return g
}

func sleepers(count int, duration time.Duration) *graph {
	g := graphOf(count)
	g.units = 1
	for _, name := range g.order {
		g.task(name, func(read) int { time.Sleep(duration); return 1 })
	}
	g.verify = func(results map[string]int, _ error) bool { return len(results) == count }
	return g
}

func makeGraph(workload, size string) *graph {
	sizes := strings.Split(size, "x")
	count, _ := strconv.Atoi(sizes[0])
	switch workload {
	case "wide":
		return wide(count)
	case "chain":
		return chain(count)
	case "layers":
		width, _ := strconv.Atoi(sizes[1])
		return layers(count, width)
	case "dashboard, leaves first":
		return dashboard("config", "user", "profile", "preferences", "dashboard")
	case "dashboard, leaves last":
		return dashboard("dashboard", "preferences", "profile", "user", "config")
	case "settled read":
		return reads(count)
	case "cancel":
		return canceled(count)
	case "sleepers":
		return sleepers(count, 10*time.Millisecond)
	case "resting":
		return sleepers(count, 2*time.Second)
	}
	panic("no workload " + workload)
}

func worked() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func resident() float64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, _ := strconv.Atoi(strings.Fields(string(text))[1])
	return float64(pages * os.Getpagesize())
}

func check(g *graph, results map[string]int, err error) {
	if !g.verify(results, err) {
		panic("wrong result")
	}
}

func main() {
	if len(os.Args) < 3 {
		return // its start is measured
	}
	workload := os.Args[1]
	g := makeGraph(workload, os.Args[2])
	if workload == "resting" {
		runtime.GC()
		before, looked := resident(), make(chan float64)
		go func() {
			time.Sleep(time.Second)
			looked <- resident()
		}()
		go func() {
			results, err := run(g)
			check(g, results, err)
		}()
		fmt.Println((<-looked - before) / float64(len(g.order)))
		return
	}
	results, err := run(g)
	check(g, results, err)
	for times := 1; ; {
		runtime.GC()
		began, spent := time.Now(), worked()
		for i := 0; i < times; i++ {
			results, err = run(g)
		}
		took := time.Since(began).Seconds()
		if spent = worked() - spent; workload != "sleepers" && spent < took && spent > 0 {
			took = spent // less what other programs took
		}
		check(g, results, err)
		if took >= leastSeconds && (times > 1 || took > 0.2) {
			fmt.Println(took * 1e9 / float64(times*g.units))
			return
		}
		next := int(float64(times) * leastSeconds * 1.2 / took)
		if times *= 2; next > times {
			times = next
		}
	}
}
