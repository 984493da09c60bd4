// Command hostile attacks partd-server with millions of malformed conversations, while an
// honest client sends requests.
//
//	go run -C bench ./hostile --conversations 1000000
//	go run -C bench ./hostile --mode readers
//
// The exit code is 1 if the server crashed, used over 64 MiB more memory than when idle, or
// let the honest client wait for more than a second.
//
// With --mode, many peers with the same address overload the server with valid requests
// instead. Then the exit code is 1 if honest clients waited too long, or if the server used or
// retained too much memory or disk space.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// maxAboveIdle is how many bytes of memory the server may use beyond what it uses when idle.
const maxAboveIdle = 64 << 20

func main() {
	program.ServeIfChild()
	n := flag.Int64("conversations", 1_000_000, "number of conversations")
	concurrency := flag.Int("at-once", 16, "number of concurrent conversations")
	seed := flag.Uint64("seed", 0, "seed of the random conversations; 0 means a random seed")
	maxWait := flag.Duration("within", time.Second, "maximum time that the honest client may wait for an answer")
	mode := flag.String("mode", "", "overload the server with valid requests instead: frames, keys, deletes, readers, turns, or all")
	modeDuration := flag.Duration("for", 20*time.Second, "duration of each mode")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	if *n < 1 || *concurrency < 1 || *maxWait <= 0 || *modeDuration <= 0 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "hostile: --conversations, --at-once, --within and --for must be above 0, and no other arguments are allowed")
		os.Exit(2)
	}
	if *mode != "" {
		program.ExitOnError(runModes(ctx, *mode, *modeDuration))
		return
	}
	program.ExitOnError(run(ctx, *n, *concurrency, *seed, *maxWait))
}

func run(ctx context.Context, n int64, concurrency int, seed uint64, maxWait time.Duration) (err error) {
	p, err := program.StartServer(context.WithoutCancel(ctx), "", "log:DIR?memory=16MiB", "--max-message", "1MiB")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	idle, _, memoryErr := procs.Memory(p.Pid())
	network, address := p.Address()
	target := &hostile.Target{Network: network, Address: address, Patience: 30 * time.Second}
	start := time.Now()
	report, err := hostile.Run(ctx, target, n, concurrency, seed, maxWait, func(done int64) {
		if done%100_000 == 0 {
			current, peak, _ := procs.Memory(p.Pid()) // ignore the error: hostile.Run notices if the server has exited
			fmt.Printf("%d conversations, %.0f a second, memory %d MiB, peak %d MiB\n",
				done, float64(done)/time.Since(start).Seconds(), current>>20, peak>>20)
		}
	})
	if err != nil {
		return fmt.Errorf("%w (seed %d, server exited: %v)\n%s", err, seed, p.HasExited(), p.Stderr())
	}
	_, peak, e := procs.Memory(p.Pid())
	memoryErr = errors.Join(memoryErr, e)
	fmt.Printf("seed %d: %d conversations in %v, %.0f a second\n", seed, report.Conversations,
		report.Duration.Round(time.Second), float64(report.Conversations)/report.Duration.Seconds())
	fmt.Printf("honest client: %d requests were answered; the slowest three in a row took %v (this machine's longest stall was %v); other peers removed %d of its values\n",
		report.HonestRequests, report.Slowest.Round(time.Millisecond), report.LongestStall.Round(time.Millisecond), report.MissingValues)
	if memoryErr != nil {
		fmt.Println("memory unknown:", memoryErr)
	} else {
		fmt.Printf("memory: %d MiB idle, peak %d MiB, %d MiB more\n", idle>>20, peak>>20, (peak-idle)>>20)
	}
	if memoryErr == nil && peak > idle+maxAboveIdle {
		return fmt.Errorf("the server used %d MiB more than when idle; the limit is %d MiB", (peak-idle)>>20, maxAboveIdle>>20)
	}
	return nil
}
