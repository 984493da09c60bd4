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

	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/serverproc"
)

// What a pressure may cost others, and what the server is told and has to keep to.
const (
	processMemory = 512 << 20
	quota         = 8 << 20
	mostElsewhere = 100 * time.Millisecond
	mostBeside    = 2 * time.Second
	giveBackIn    = 5 * time.Second
	answerIn      = 10 * time.Second // that an honest peer waits for each answer
)

// pressure is many peers of one address that each want much of the server.
type pressure struct {
	peers int
	flags []string // of the server, beside its memory
	press func(p *hostile.Peer) error
}

// pressures are the modes beside conversations.
var pressures = map[string]pressure{
	"none": {}, // what the machine itself has them wait
	"frames": {4, nil, func(p *hostile.Peer) error {
		return p.Raw(append(hostile.Message("append", "")[:8], strings.Repeat("\x01\x00", 8_900_000)...)) // and no end
	}},
	"keys":    {2, nil, asking("append", 4_000_000)},
	"deletes": {4, []string{"--max-bytes", strconv.Itoa(quota)}, asking("delete", 20)},
	"readers": {300, nil, func(p *hostile.Peer) error {
		err := p.Send("get", "large")
		time.Sleep(2 * time.Second)
		return err
	}},
	"turns": {4, nil, asking("delete", 1_000_000)},
}

func runModes(ctx context.Context, mode string, d time.Duration) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(pressures)) {
		if mode == name || mode == "all" {
			w := pressures[name]
			if err := w.run(ctx, name, d); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
			}
		}
	}
	if _, known := pressures[mode]; !known && mode != "all" {
		return fmt.Errorf("there is no mode %q", mode)
	}
	return errors.Join(errs...)
}

// asking makes a request with so many short keys again and again.
func asking(command string, keys int) func(p *hostile.Peer) error {
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

// run applies a pressure for a time, while honest peers of its address and of another
// get a byte again and again, on old and new connections.
func (w *pressure) run(ctx context.Context, name string, d time.Duration) (err error) {
	p, dir, end, err := startServer(ctx, append([]string{"--memory", strconv.Itoa(processMemory)}, w.flags...))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	_, address := p.Address()
	if err := fill(ctx, address, name == "readers"); err != nil {
		return err
	}
	idle, _, _ := serverproc.Memory(p.Pid()) // the error comes again
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var presses, honest sync.WaitGroup
	for range w.peers {
		presses.Go(func() {
			for ctx.Err() == nil {
				peer, err := hostile.OpenFrom(ctx, "", address, time.Minute)
				if err != nil {
					time.Sleep(time.Millisecond) // it has enough of them
					continue
				}
				stop := context.AfterFunc(ctx, func() { _ = peer.Close() })
				for err == nil && ctx.Err() == nil {
					err = w.press(peer) // the server may close it
				}
				stop()
				_ = peer.Close()
			}
		})
	}
	var beside, elsewhere []time.Duration
	honest.Go(func() { beside = gets(ctx, address, "127.0.0.1") })
	honest.Go(func() { elsewhere = gets(ctx, address, "127.0.0.2") })
	honest.Wait()
	presses.Wait()
	time.Sleep(giveBackIn)
	now, most, memoryErr := serverproc.Memory(p.Pid())
	disk := diskUse(dir)
	fmt.Printf("%s: p99 of %d gets from the same address %v, of %d from another %v; memory at the most %d MiB, %v later %d MiB; disk %d MiB\n",
		name, len(beside), p99(beside), len(elsewhere), p99(elsewhere), most>>20, giveBackIn, now>>20, disk>>20)
	var errs []error
	if p99(elsewhere) > mostElsewhere || p99(beside) > mostBeside {
		errs = append(errs, fmt.Errorf("honest peers waited for longer than %v from another address, or %v from the same", mostElsewhere, mostBeside))
	}
	if memoryErr == nil && (most > processMemory || now > idle+mostAboveIdle) {
		errs = append(errs, fmt.Errorf("the server took %d MiB, and kept %d; idle it took %d", most>>20, now>>20, idle>>20))
	}
	if len(w.flags) > 0 && disk > 2*quota {
		errs = append(errs, fmt.Errorf("the store took %d MiB of the disk, its quota is %d", disk>>20, quota>>20))
	}
	return errors.Join(errs...)
}

// fill stores what is got: a byte, and 64 MiB.
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

// gets returns how long each get of a byte took. One that was not answered took as
// long as was waited for it.
func gets(ctx context.Context, address, from string) (took []time.Duration) {
	var p *hostile.Peer
	for i := 0; ctx.Err() == nil; i++ {
		begin := time.Now()
		var err error
		if p == nil {
			p, err = hostile.OpenFrom(ctx, from, address, answerIn)
		} else {
			err = p.Again()
		}
		if err == nil {
			_, err = p.Get("small")
		}
		if ctx.Err() != nil && err != nil && len(took) > 0 {
			break
		}
		took = append(took, time.Since(begin))
		if err != nil {
			took[i] = max(took[i], answerIn)
		}
		if p != nil && (err != nil || i%20 == 0) {
			_ = p.Close()
			p = nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return took
}

func p99(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)*99/100].Round(100 * time.Microsecond)
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
