package servercli_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
)

// greedyBytes returns what each kind of greedy peer sends, without reading answers. All but the first two begin with a
// handshake.
func greedyBytes() [][]byte {
	request := func(op byte, body ...byte) []byte { // a request in the Go client's protocol
		h := append([]byte("\x00PD1"), make([]byte, 36)...)
		h[4], h[8] = op, 1
		return hostile.Message(string(append(h, body...)))
	}
	announced := func(begin int) []byte { // the beginning of a frame of 16 MiB
		return append(binary.BigEndian.AppendUint64([]byte{2}, 16<<20), make([]byte, begin)...)
	}
	return [][]byte{
		nil,
		{0xff, 0, 0, 0},
		bytes.Repeat(hostile.Message("syn"), 10_000),
		announced(200 << 10),
		append([]byte("\x01\x06append\x01\x01k"), announced(2<<20)...),
		bytes.Repeat(request(3, make([]byte, 24)...), 3000),                                             // sessions
		bytes.Repeat(append(request(16), request(17, 0, 0, 0, 0, 1, 0, 0, 0)...), 32),                   // listings
		bytes.Repeat(hostile.Message("get", "large"), 200),                                              // a slow reader
		bytes.Repeat(request(13, []byte("\x01\x00\x00\x00\x05\x00large")...), 200),                      // another
		hostile.Message("append", "big", strings.Repeat("x", 1<<20), "big", strings.Repeat("x", 4<<20)), // deleted each second
	}
}

// TestGreedyPeers opens many plain connections from one address that use as many resources as they can, and reconnect.
// A client at another address must be served within a second or, on a busy machine, within four times the wait measured
// on an idle server. A client at the same address must make progress. The server must stay within its memory limit.
// PARTD_GREEDY sets the duration, and a thousand connections; after at least a minute, the server's usage must recover.
func TestGreedyPeers(t *testing.T) {
	require(t, runtime.GOOS == "linux", "Linux, which has many loopback addresses")
	duration, conns, memory := 3*time.Second, 150, int64(128<<20)
	if s := os.Getenv("PARTD_GREEDY"); s != "" {
		duration = must.Get(time.ParseDuration(s))(t)
		conns, memory = 1000, 512<<20
	}
	p, quiet := start(t, "--store", "log:"+t.TempDir(), "--memory", fmt.Sprint(memory), "--http", "127.0.0.1:0"), start(t, "--store", "log:"+t.TempDir())
	admin := adminURL(t, p)
	network, address := p.Address()
	_, quietAddress := quiet.Address()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open := func(localIP, address string) *remote.Client {
		c := must.Get(remote.Dial(ctx, forward(t, localIP, address), &remote.ClientOptions{RetryFor: 10 * time.Minute}))(t)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	janitor := open("127.0.0.3", address)
	for i := range 200 {
		must.Do(t, janitor.Append(ctx, partd.Entry{Key: fmt.Sprint("listed", i, string(make([]byte, 30_000))), Value: make([]byte, 30_000)}))
	}
	must.Do(t, janitor.Append(ctx, partd.Entry{Key: "large", Value: make([]byte, 8<<20)}))
	clients := []*remote.Client{open("127.0.0.2", address), open("127.0.0.1", address), open("127.0.0.2", quietAddress)}

	before := usageOf(t, p, admin)
	var wg sync.WaitGroup
	kinds := greedyBytes()
	for i := range conns {
		wg.Go(func() {
			for ; ctx.Err() == nil; time.Sleep(10*time.Millisecond + rand.N(200*time.Millisecond)) {
				peer, err := hostile.Dial(ctx, network, address, time.Minute)
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { _ = peer.Close() })
				if kind := i % len(kinds); kind < 2 || peer.Handshake() == nil {
					if peer.Raw(kinds[kind]) == nil {
						select { // keep the connection open without reading
						case <-ctx.Done():
						case <-time.After(time.Second + rand.N(10*time.Second)):
						}
					}
				}
				stop()
				_ = peer.Close()
			}
		})
	}
	wg.Go(func() {
		for ; ctx.Err() == nil; time.Sleep(time.Second) { // so that the disk does not fill
			if err := janitor.Delete(ctx, "big"); err != nil && ctx.Err() == nil {
				t.Errorf("Delete of the greedy peers' data: %v", err)
			}
		}
	})
	var waits [3][]time.Duration
	for i, c := range clients {
		wg.Go(func() { waits[i] = beHonest(ctx, t, c, fmt.Sprint("honest", i)) })
	}
	time.Sleep(duration)
	cancel()
	wg.Wait()
	if duration >= time.Minute { // requests that wait for memory may keep it for half a minute; TestMixedLoad is faster
		checkUsageRecovers(t, p, admin, before)
	}
	for i, name := range []string{"the client at another address", "the client at the greedy peers' address", "the client of an idle server"} {
		if minAnswers := []int{5, 1, 5}[i]; len(waits[i]) < minAnswers {
			t.Fatalf("%s received %d answers, want at least %d", name, len(waits[i]), minAnswers)
		}
	}
	percentiles(t, "the client at the greedy peers' address", waits[1])
	limit := max(time.Second, 4*percentiles(t, "the client of an idle server", waits[2]))
	if p99 := percentiles(t, "the client at another address", waits[0]); p99 > limit && !procs.RaceEnabled {
		t.Errorf("the p99 wait of the client at another address is %v, want at most %v", p99, limit)
	}
	now, peak, err := procs.Memory(p.Pid())
	must.Do(t, err)
	t.Logf("the server uses %d MiB, at its peak %d", now>>20, peak>>20)
	if peak > memory+memory/5+30<<20 && !procs.RaceEnabled {
		t.Errorf("the server used %d MiB at its peak, want at most a fifth and 30 MiB more than its limit of %d MiB", peak>>20, memory>>20)
	}
	stop(t, p)
	stop(t, quiet)
}

// forward starts a proxy that connects to serverAddress from localIP, so that a client can use another
// address. It returns the proxy's URL.
func forward(t *testing.T, localIP, serverAddress string) (url string) {
	l := must.Get(net.Listen("tcp", "127.0.0.1:0"))(t)
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
