package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/remote"
)

// greedyFor returns the duration of TestGreedyPeers, and its number of connections.
// PARTD_GREEDY=10m runs the whole test.
func greedyFor(t *testing.T) (d time.Duration, conns int) {
	s := os.Getenv("PARTD_GREEDY")
	if s == "" {
		return 3 * time.Second, 150
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatalf("PARTD_GREEDY=%q is not a duration: %v", s, err)
	}
	return d, 1000
}

// forward lets clients connect from another address: it returns a URL whose connections
// are forwarded to the server from that address.
func forward(t *testing.T, from, to string) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := dialer.Dial("tcp", to)
				if err != nil {
					return
				}
				defer out.Close()
				go func() {
					_, _ = io.Copy(out, in)
					_ = out.Close()
				}()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
	return "tcp://" + l.Addr().String()
}

// goRequest returns a request in the Go client's protocol.
func goRequest(op byte, number, session, seq uint64, body []byte) []byte {
	h := make([]byte, 40, 40+len(body))
	copy(h, "\x00PD1")
	h[4] = op
	le := binary.LittleEndian
	le.PutUint64(h[8:], number)
	le.PutUint64(h[16:], session)
	le.PutUint64(h[24:], seq)
	return hostile.Message(string(append(h, body...)))
}

func u64s(values ...uint64) (b []byte) {
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return b
}

// announceFrame returns the beginning of a frame that claims more bytes.
func announceFrame(size uint64, begin []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{2}, size), begin...)
}

// greed is a way to hold a resource until the connection is closed.
type greed struct {
	name string
	do   func(ctx context.Context, p *hostile.Peer, i int) error
}

func greedyLoads() []greed {
	raw := func(b ...[]byte) func(context.Context, *hostile.Peer, int) error {
		return func(_ context.Context, p *hostile.Peer, _ int) error {
			for _, b := range b {
				if err := p.Raw(b); err != nil {
					return err
				}
			}
			return nil
		}
	}
	repeatFrames := func(n int, make func(i int) []byte) func(context.Context, *hostile.Peer, int) error {
		return func(_ context.Context, p *hostile.Peer, _ int) error {
			for i := range n {
				if err := p.Raw(make(i)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	session := func(int) []byte { return goRequest(3, 1, 0, 0, make([]byte, 24)) }
	scan := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0), 1)
	value := string(make([]byte, 1<<20))
	return []greed{
		{"syn, and nothing more", raw(hostile.Message("syn"))},
		{"many syn", repeatFrames(10_000, func(int) []byte { return hostile.Message("syn") })},
		{"half a message", raw(announceFrame(16<<20, make([]byte, 200<<10)))},
		{"half a message of many frames", raw([]byte("\x01\x06append\x01\x01k"), announceFrame(16<<20, make([]byte, 2<<20)))},
		{"half an upload", raw(goRequest(23, 1, 0, 0, append(u64s(1, 32<<20, 0), make([]byte, 1<<20)...)))},
		{"sessions", repeatFrames(3000, session)},
		{"guessed sessions", repeatFrames(1000, func(i int) []byte { return goRequest(5, 1, rand.Uint64N(1<<40), uint64(i), make([]byte, 4)) })},
		{"listings", repeatFrames(64, func(i int) []byte {
			if i%2 == 0 {
				return goRequest(16, 1, 0, 0, nil)
			}
			return goRequest(17, 1, 0, 0, scan)
		})},
		{"a slow reader", repeatFrames(200, func(int) []byte { return hostile.Message("get", "large") })},
		{"a slow reader of Go's", repeatFrames(200, func(int) []byte {
			return goRequest(13, 1, 0, 0, []byte("\x01\x00\x00\x00\x05\x00large"))
		})},
		{"pops that are not taken", func(ctx context.Context, p *hostile.Peer, i int) error {
			c, err := remote.Dial(ctx, p.URL(), nil)
			if err != nil {
				return err
			}
			defer c.Close()
			key := fmt.Sprint("popped", i)
			for ctx.Err() == nil {
				if err := c.Append(ctx, partd.Entry{Key: key, Value: []byte(value)}); err != nil {
					return err
				}
				short, cancel := context.WithTimeout(ctx, time.Millisecond)
				_, _ = c.Pop(short, key) // usually abandoned
				cancel()
				time.Sleep(time.Second)
			}
			return nil
		}},
		{"large honest messages", func(ctx context.Context, p *hostile.Peer, i int) error {
			m := hostile.Message("append", fmt.Sprint("big", i), value, fmt.Sprint("big", i), value+value+value+value)
			for ctx.Err() == nil {
				if err := p.Raw(m); err != nil {
					return err
				}
				time.Sleep(10 * time.Second)
			}
			return nil
		}},
	}
}

// TestGreedyPeers lets a thousand connections from one address hold as much as they can,
// and reconnect when they are closed. Meanwhile a client at another address is served
// within a second (or four times the wait at an idle server, if the machine is busy), and
// a client at the same address makes progress. The server stays within its memory. After
// the greedy peers have disconnected, it has no more descriptors, goroutines and
// connections than before.
func TestGreedyPeers(t *testing.T) {
	require(t, runtime.GOOS == "linux", "only Linux has many loopback addresses")
	const memory = 512 << 20
	duration, hostileConns := greedyFor(t)
	p := start(t, "--store", "log:"+t.TempDir(), "--memory", fmt.Sprint(memory), "--http", "127.0.0.1:0")
	admin := adminURL(t, p)
	network, address := p.Address()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func(from string) *remote.Client {
		c, err := remote.Dial(ctx, forward(t, from, address), &remote.ClientOptions{RetryFor: 10 * time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	honestPeer, greedyPeer, janitor := open("127.0.0.2"), open("127.0.0.1"), open("127.0.0.3")
	for i := range 200 {
		if err := janitor.Append(ctx, partd.Entry{Key: fmt.Sprint("listed", i, string(make([]byte, 30_000))), Value: make([]byte, 30_000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := janitor.Append(ctx, partd.Entry{Key: "large", Value: make([]byte, 8<<20)}); err != nil {
		t.Fatal(err)
	}

	before := usageOf(t, p, admin)
	var wg sync.WaitGroup
	kinds := greedyLoads()
	conversations := make([]atomic.Int64, len(kinds)+2)
	for i := range hostileConns {
		wg.Go(func() {
			for ctx.Err() == nil {
				kind := (i + 1) % (len(kinds) + 2)
				beGreedy(ctx, network, address, kinds, kind, i)
				conversations[kind].Add(1)
				time.Sleep(time.Duration(10+rand.IntN(200)) * time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil { // keeps the disk from filling
			keys := make([]string, 0, 2*hostileConns)
			for i := range hostileConns {
				keys = append(keys, fmt.Sprint("big", i), fmt.Sprint("popped", i))
			}
			if err := janitor.Delete(ctx, keys...); err != nil && ctx.Err() == nil {
				t.Errorf("deleting: %v", err)
			}
			time.Sleep(time.Second)
		}
	})
	// The same load on another, idle server measures the machine's speed at the same time.
	quietServer := start(t, "--store", "log:"+t.TempDir())
	_, quiet := quietServer.Address()
	elsewhere, err := remote.Dial(ctx, forward(t, "127.0.0.2", quiet), nil)
	if err != nil {
		t.Fatal(err)
	}
	var waits [3][]time.Duration
	for i, c := range []*remote.Client{honestPeer, greedyPeer, elsewhere} {
		wg.Go(func() { waits[i] = beHonest(ctx, t, c, fmt.Sprint("honest", i)) })
	}
	// In a long run, usage must not grow from the first third to the end.
	time.Sleep(duration / 3)
	atThird := usageOf(t, p, admin)
	time.Sleep(duration - duration/3)
	final := usageOf(t, p, admin)
	cancel()
	wg.Wait()
	t.Logf("usage after a third of the time %+v, at the end %+v", atThird, final)
	if duration >= time.Minute && (final.goroutines > 2*atThird.goroutines+500 || final.descriptors > atThird.descriptors+hostileConns || final.memory > atThird.memory+memory/2) {
		t.Error("usage grows")
	}
	checkReturns(t, p, admin, before)

	slices.Sort(waits[2])
	machine := waits[2][len(waits[2])*99/100] // the wait that the machine causes even without greedy peers
	for i, name := range []string{"another address", "the same address", "a separate server"} {
		w := waits[i]
		slices.Sort(w)
		if minAnswers := []int{5, 1, 5}[i]; len(w) < minAnswers {
			t.Errorf("the client of %s got %d answers", name, len(w))
			continue
		}
		admin := func(percent int) time.Duration { return w[len(w)*percent/100].Round(time.Microsecond) }
		t.Logf("the client of %s: %d answers, p50 %v, p99 %v, the longest %v", name, len(w), admin(50), admin(99), w[len(w)-1].Round(time.Microsecond))
		if i == 0 && admin(99) > max(time.Second, 4*machine) && !withRace {
			t.Errorf("the client at another address waits %v (p99)", admin(99))
		}
	}
	for i := range conversations {
		name := []string{"silence", "half a greeting"}
		for _, k := range kinds {
			name = append(name, k.name)
		}
		t.Logf("%6d × %s", conversations[i].Load(), name[i])
	}
	if now, peak, err := serverproc.Memory(p.Pid()); err == nil {
		t.Logf("the server uses %d MiB, at most %d", now>>20, peak>>20)
		if peak > memory+memory/10+30<<20 && !withRace {
			t.Errorf("the server used %d MiB, its limit is %d", peak>>20, memory>>20)
		}
	}
	for _, c := range []*remote.Client{honestPeer, greedyPeer, janitor, elsewhere} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	stop(t, p)
	stop(t, quietServer)
}

// beGreedy holds as much as it can until the server closes the connection.
func beGreedy(ctx context.Context, network, address string, kinds []greed, kind, i int) {
	p, err := hostile.Dial(ctx, network, address, time.Minute)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = p.Close() })
	defer stop()
	defer p.Close()
	if kind == 1 {
		_ = p.Raw([]byte{0xff, 0, 0, 0})
	}
	if kind > 1 {
		if p.Handshake() != nil || kinds[kind-2].do(ctx, p, i) != nil {
			return
		}
	}
	select { // without reading
	case <-ctx.Done():
	case <-time.After(time.Second + rand.N(10*time.Second)):
	}
}

// beHonest appends, gets and checks values. It returns how long each request took.
func beHonest(ctx context.Context, t *testing.T, c *remote.Client, key string) (waits []time.Duration) {
	size := 0
	for i := 0; ctx.Err() == nil; i++ {
		value := make([]byte, 1000)
		if i%50 == 49 {
			value = make([]byte, 300_000)
		}
		begin := time.Now()
		err := c.Append(ctx, partd.Entry{Key: key, Value: value})
		size += len(value)
		waits = append(waits, time.Since(begin))
		if err == nil && i%10 == 9 {
			begin = time.Now()
			var v [][]byte
			if v, err = c.Get(ctx, key); err == nil && len(v[0]) != size {
				t.Errorf("%s has %d bytes, but %d were appended", key, len(v[0]), size)
			}
			waits = append(waits, time.Since(begin))
		}
		if err == nil && size > 1<<20 {
			err = c.Delete(ctx, key)
			size = 0
		}
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, remote.ErrBusy) {
				t.Errorf("%s: %v", key, err)
			}
			return waits
		}
		time.Sleep(2 * time.Millisecond)
	}
	return waits
}
