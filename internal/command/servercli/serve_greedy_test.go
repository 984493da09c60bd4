package servercli_test

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
	"github.com/go-partd/partd/internal/testutil/race"
	"github.com/go-partd/partd/internal/testutil/serverproc"
	"github.com/go-partd/partd/remote"
)

// greedySettings returns the duration of TestGreedyPeers and its number of connections. By default,
// both are small. PARTD_GREEDY=10m sets the duration, and the full number of connections.
func greedySettings(t *testing.T) (d time.Duration, conns int) {
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

// forward starts a proxy that connects to serverAddress from localIP, so that a client can use another
// address. It returns the proxy's URL.
func forward(t *testing.T, localIP, serverAddress string) (url string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(localIP)}, Timeout: 5 * time.Second}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := dialer.Dial("tcp", serverAddress)
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

// goRequest encodes a request in the Go client's protocol.
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

// announceFrame returns an incomplete frame: a header that announces size bytes, followed only by begin.
func announceFrame(size uint64, begin []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{2}, size), begin...)
}

// greedyLoad is a way to use a resource of the server until the connection is closed.
type greedyLoad struct {
	name string
	run  func(ctx context.Context, p *hostile.Peer, i int) error
}

func greedyLoads() []greedyLoad {
	sendRaw := func(b ...[]byte) func(context.Context, *hostile.Peer, int) error {
		return func(_ context.Context, p *hostile.Peer, _ int) error {
			for _, b := range b {
				if err := p.Raw(b); err != nil {
					return err
				}
			}
			return nil
		}
	}
	repeatFrames := func(n int, makeFrame func(i int) []byte) func(context.Context, *hostile.Peer, int) error {
		return func(_ context.Context, p *hostile.Peer, _ int) error {
			for i := range n {
				if err := p.Raw(makeFrame(i)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	newSessionRequest := func(int) []byte { return goRequest(3, 1, 0, 0, make([]byte, 24)) }
	scanBody := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, 0), 1)
	value := string(make([]byte, 1<<20))
	return []greedyLoad{
		{"only syn", sendRaw(hostile.Message("syn"))},
		{"many syn", repeatFrames(10_000, func(int) []byte { return hostile.Message("syn") })},
		{"half a message", sendRaw(announceFrame(16<<20, make([]byte, 200<<10)))},
		{"half a message of many frames", sendRaw([]byte("\x01\x06append\x01\x01k"), announceFrame(16<<20, make([]byte, 2<<20)))},
		{"half an upload", sendRaw(goRequest(23, 1, 0, 0, append(u64s(1, 32<<20, 0), make([]byte, 1<<20)...)))},
		{"sessions", repeatFrames(3000, newSessionRequest)},
		{"guessed sessions", repeatFrames(1000, func(i int) []byte { return goRequest(5, 1, rand.Uint64N(1<<40), uint64(i), make([]byte, 4)) })},
		{"listings", repeatFrames(64, func(i int) []byte {
			if i%2 == 0 {
				return goRequest(16, 1, 0, 0, nil)
			}
			return goRequest(17, 1, 0, 0, scanBody)
		})},
		{"a slow reader", repeatFrames(200, func(int) []byte { return hostile.Message("get", "large") })},
		{"a slow reader in the Go protocol", repeatFrames(200, func(int) []byte {
			return goRequest(13, 1, 0, 0, []byte("\x01\x00\x00\x00\x05\x00large"))
		})},
		{"abandoned pops", func(ctx context.Context, p *hostile.Peer, i int) error {
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
				shortCtx, cancel := context.WithTimeout(ctx, time.Millisecond)
				_, _ = c.Pop(shortCtx, key) // usually abandoned
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

// TestGreedyPeers opens a thousand connections from one address that use as many resources as they can,
// and reconnect when the server closes them. A client at another address must be served within a second
// or, on a busy machine, within four times the wait measured on an idle server. A client at the same
// address must make progress. The server must stay within its memory limit. After the greedy peers have
// disconnected, it must not have more descriptors, goroutines or connections than before.
func TestGreedyPeers(t *testing.T) {
	require(t, runtime.GOOS == "linux", "Linux, which has many loopback addresses")
	const memory = 512 << 20
	duration, hostileConns := greedySettings(t)
	p := start(t, "--store", "log:"+t.TempDir(), "--memory", fmt.Sprint(memory), "--http", "127.0.0.1:0")
	admin := adminURL(t, p)
	network, address := p.Address()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func(localIP string) *remote.Client {
		c, err := remote.Dial(ctx, forward(t, localIP, address), &remote.ClientOptions{RetryFor: 10 * time.Minute})
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
	rounds := make([]atomic.Int64, len(kinds)+2)
	for i := range hostileConns {
		wg.Go(func() {
			for ctx.Err() == nil {
				kind := (i + 1) % (len(kinds) + 2)
				beGreedy(ctx, network, address, kinds, kind, i)
				rounds[kind].Add(1)
				time.Sleep(time.Duration(10+rand.IntN(200)) * time.Millisecond)
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil { // delete the greedy peers' data, so that the disk does not fill
			keys := make([]string, 0, 2*hostileConns)
			for i := range hostileConns {
				keys = append(keys, fmt.Sprint("big", i), fmt.Sprint("popped", i))
			}
			if err := janitor.Delete(ctx, keys...); err != nil && ctx.Err() == nil {
				t.Errorf("Delete of the greedy peers' data: %v", err)
			}
			time.Sleep(time.Second)
		}
	})
	// The same load on another, idle server measures the machine's speed at the same time.
	quietServer := start(t, "--store", "log:"+t.TempDir())
	_, quietAddress := quietServer.Address()
	quietClient, err := remote.Dial(ctx, forward(t, "127.0.0.2", quietAddress), nil)
	if err != nil {
		t.Fatal(err)
	}
	var waits [3][]time.Duration
	for i, c := range []*remote.Client{honestPeer, greedyPeer, quietClient} {
		wg.Go(func() { waits[i] = beHonest(ctx, t, c, fmt.Sprint("honest", i)) })
	}
	// In a long run, usage must not grow after the first third of the time.
	time.Sleep(duration / 3)
	atThird := usageOf(t, p, admin)
	time.Sleep(duration - duration/3)
	final := usageOf(t, p, admin)
	cancel()
	wg.Wait()
	t.Logf("usage after a third of the time %+v, at the end %+v", atThird, final)
	if duration >= time.Minute && (final.goroutines > 2*atThird.goroutines+500 || final.descriptors > atThird.descriptors+hostileConns || final.memory > atThird.memory+memory/2) {
		t.Error("the server's usage grew after the first third of the time")
	}
	checkUsageRecovers(t, p, admin, before)

	slices.Sort(waits[2])
	quietP99 := waits[2][len(waits[2])*99/100] // p99 without greedy peers, as a measure of the machine's load
	for i, name := range []string{"another address", "the greedy peers' address", "a server without greedy peers"} {
		w := waits[i]
		slices.Sort(w)
		if minAnswers := []int{5, 1, 5}[i]; len(w) < minAnswers {
			t.Errorf("the client at %s received %d answers, want at least %d", name, len(w), minAnswers)
			continue
		}
		percentile := func(percent int) time.Duration { return w[len(w)*percent/100].Round(time.Microsecond) }
		t.Logf("the client at %s: %d answers, waits: p50 %v, p99 %v, longest %v", name, len(w), percentile(50), percentile(99), w[len(w)-1].Round(time.Microsecond))
		if i == 0 && percentile(99) > max(time.Second, 4*quietP99) && !race.Enabled {
			t.Errorf("the p99 wait of the client at another address is %v, want at most %v", percentile(99), max(time.Second, 4*quietP99))
		}
	}
	for i := range rounds {
		names := []string{"silence", "half a greeting"}
		for _, k := range kinds {
			names = append(names, k.name)
		}
		t.Logf("%6d × %s", rounds[i].Load(), names[i])
	}
	if now, peak, err := serverproc.Memory(p.Pid()); err == nil {
		t.Logf("the server uses %d MiB, at its peak %d", now>>20, peak>>20)
		if peak > memory+memory/10+30<<20 && !race.Enabled {
			t.Errorf("the server used %d MiB at its peak, want at most a tenth and 30 MiB more than its limit of %d MiB", peak>>20, memory>>20)
		}
	}
	for _, c := range []*remote.Client{honestPeer, greedyPeer, janitor, quietClient} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	stop(t, p)
	stop(t, quietServer)
}

// beGreedy opens a connection and uses resources of the server: it is silent (kind 0), sends half a
// greeting (kind 1), or runs kinds[kind-2]. Then it keeps the connection open for some seconds.
func beGreedy(ctx context.Context, network, address string, kinds []greedyLoad, kind, i int) {
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
		if p.Handshake() != nil || kinds[kind-2].run(ctx, p, i) != nil {
			return
		}
	}
	select { // keep the connection open without reading
	case <-ctx.Done():
	case <-time.After(time.Second + rand.N(10*time.Second)):
	}
}

// beHonest appends, reads and checks values until ctx ends. It returns the duration of each request.
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
				t.Errorf("Get(%s) = %d bytes, want the %d that were appended", key, len(v[0]), size)
			}
			waits = append(waits, time.Since(begin))
		}
		if err == nil && size > 1<<20 {
			err = c.Delete(ctx, key)
			size = 0
		}
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, remote.ErrBusy) {
				t.Errorf("request for key %s: %v", key, err)
			}
			return waits
		}
		time.Sleep(2 * time.Millisecond)
	}
	return waits
}
