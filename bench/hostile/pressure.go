package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/procs"
)

const (
	processMemory       = 512 << 20              // the server's --memory
	quota               = 8 << 20                // the server's --max-bytes
	maxWaitOtherAddress = 100 * time.Millisecond // maximum p99 latency of an honest client whose address differs from the attackers'
	maxWaitSameAddress  = 2 * time.Second        // maximum p99 latency of an honest client with the attackers' address
	releaseDelay        = 10 * time.Second       // time for the server to finish the requests it has received and to release their memory
	answerTimeout       = 10 * time.Second       // after this time without an answer, an honest client gives up
)

// overload describes an attack by several peers with the same address.
type overload struct {
	peers int
	flags []string                    // flags of the server, in addition to --memory
	apply func(p *hostile.Peer) error // sends a request; each peer calls it repeatedly
}

// overloads are the values of --mode.
var overloads = map[string]overload{
	"none": {}, // no attack, to measure the delays of this machine
	"frames": {4, nil, func(p *hostile.Peer) error {
		return p.Raw(append(hostile.Message("append", "")[:8], strings.Repeat("\x01\x00", 8_900_000)...)) // the message is never completed
	}},
	"keys":    {2, nil, repeatRequest("append", 4_000_000)},
	"deletes": {4, []string{"--max-bytes", strconv.Itoa(quota)}, repeatRequest("delete", 20)},
	"readers": {300, nil, func(p *hostile.Peer) error {
		err := p.Send("get", "large")
		time.Sleep(2 * time.Second)
		return err
	}},
	"turns": {4, nil, repeatRequest("delete", 1_000_000)},
}

func runModes(ctx context.Context, mode string, d time.Duration) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(overloads)) {
		if mode == name || mode == "all" {
			w := overloads[name]
			if err := w.run(ctx, name, d); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	if _, exists := overloads[mode]; !exists && mode != "all" {
		return fmt.Errorf("unknown mode %q: use all or one of %s", mode, strings.Join(slices.Sorted(maps.Keys(overloads)), ", "))
	}
	return errors.Join(errs...)
}

// repeatRequest returns a function that sends a request and waits for the answer. Each call sends
// the same request, which has the given number of short keys.
func repeatRequest(command string, keys int) func(p *hostile.Peer) error {
	message := sync.OnceValue(func() []byte {
		frames := []string{command}
		for i := range keys {
			frames = append(frames, strconv.FormatInt(int64(i), 36))
		}
		return hostile.Message(frames...)
	})
	return func(p *hostile.Peer) error {
		if err := p.Raw(message()); err != nil {
			return err
		}
		_, err := p.Receive()
		return err
	}
}

// run overloads the server for the duration d. Meanwhile, two honest clients repeatedly get one
// byte, on old and new connections. One shares the attackers' address, and the other does not.
func (w *overload) run(ctx context.Context, name string, d time.Duration) (err error) {
	p, err := program.StartServer(context.WithoutCancel(ctx), "", "log:DIR", append([]string{"--memory", strconv.Itoa(processMemory)}, w.flags...)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	_, address := p.Address()
	if err := fill(ctx, address, name == "readers"); err != nil {
		return err
	}
	idle, _, _ := procs.Memory(p.Pid()) // no check: if this call fails, the later call of Memory also fails, and its error is checked
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var attackers, honest sync.WaitGroup
	for range w.peers {
		attackers.Go(func() {
			for ctx.Err() == nil {
				peer, err := hostile.OpenFrom(ctx, "", address, time.Minute)
				if err != nil {
					time.Sleep(time.Millisecond) // the server accepts no more connections from this address
					continue
				}
				stop := context.AfterFunc(ctx, func() { _ = peer.Close() })
				for err == nil && ctx.Err() == nil {
					err = w.apply(peer) // fails if the server closes the connection
				}
				stop()
				_ = peer.Close()
			}
		})
	}
	var sameAddress, otherAddress []time.Duration
	honest.Go(func() { sameAddress = measureGets(ctx, address, "127.0.0.1") })
	honest.Go(func() { otherAddress = measureGets(ctx, address, "127.0.0.2") })
	honest.Wait()
	attackers.Wait()
	time.Sleep(releaseDelay)
	current, peak, memoryErr := procs.Memory(p.Pid())
	disk := diskUse(p.Dir)
	fmt.Printf("%s: p99 of %d gets from the same address %v, of %d from another address %v; peak memory %d MiB, %v later %d MiB; disk %d MiB\n",
		name, len(sameAddress), p99(sameAddress), len(otherAddress), p99(otherAddress), peak>>20, releaseDelay, current>>20, disk>>20)
	var errs []error
	if p99(otherAddress) > maxWaitOtherAddress || p99(sameAddress) > maxWaitSameAddress {
		errs = append(errs, fmt.Errorf("honest clients waited longer than %v from another address, or longer than %v from the same address", maxWaitOtherAddress, maxWaitSameAddress))
	}
	if memoryErr == nil && (peak > processMemory || current > idle+maxAboveIdle) {
		errs = append(errs, fmt.Errorf("the server's memory peaked at %d MiB and stayed at %d MiB; it was %d MiB when idle", peak>>20, current>>20, idle>>20))
	}
	if len(w.flags) > 0 && disk > 2*quota {
		errs = append(errs, fmt.Errorf("the store used %d MiB of disk; its quota is %d MiB", disk>>20, quota>>20))
	}
	return errors.Join(errs...)
}

// fill stores the values that the requests read: one byte under "small" and, if large is true,
// 64 MiB under "large".
func fill(ctx context.Context, address string, large bool) error {
	p, err := hostile.OpenFrom(ctx, "", address, time.Minute)
	if err != nil {
		return err
	}
	err = p.Ask([]string{"ack"}, "append", "small", "v")
	for i := 0; large && i < 64 && err == nil; i++ {
		err = p.Ask([]string{"ack"}, "append", "large", strings.Repeat("v", 1<<20))
	}
	return errors.Join(err, p.Close())
}

// measureGets gets a byte repeatedly until ctx ends. It returns the duration of each get; a failed
// get counts as at least answerTimeout.
func measureGets(ctx context.Context, address, localAddress string) (waits []time.Duration) {
	var p *hostile.Peer
	for i := 0; ctx.Err() == nil; i++ {
		start := time.Now()
		var err error
		if p == nil {
			p, err = hostile.OpenFrom(ctx, localAddress, address, answerTimeout)
		} else {
			err = p.ExtendDeadline()
		}
		if err == nil {
			_, err = p.Get("small")
		}
		if ctx.Err() != nil && err != nil && len(waits) > 0 {
			break
		}
		waits = append(waits, time.Since(start))
		if err != nil {
			waits[i] = max(waits[i], answerTimeout)
		}
		if p != nil && (err != nil || i%20 == 0) {
			_ = p.Close()
			p = nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return waits
}

func p99(waits []time.Duration) time.Duration {
	slices.Sort(waits)
	return waits[len(waits)*99/100].Round(100 * time.Microsecond)
}

func diskUse(dir string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}
