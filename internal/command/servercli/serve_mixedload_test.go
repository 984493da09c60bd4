package servercli_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
)

// tenant is the user of a namespace. It knows the namespace's content.
type tenant struct {
	c          *remote.Client
	written    map[string][]byte
	waits      []time.Duration
	operations int
}

func (n *tenant) runLoad(ctx context.Context) error {
	base := context.WithoutCancel(ctx)
	for ; ctx.Err() == nil; n.operations++ {
		key := fmt.Sprint("key", rand.IntN(20))
		piece := fmt.Appendf(nil, "<%d:%s>", n.operations, randomBytes(n.operations, rand.IntN(2000)))
		start := time.Now()
		var err error
		switch i := n.operations; {
		case i%2000 == 1999:
			err = n.c.Drop(base)
			clear(n.written)
		case i%50 == 49:
			err = n.c.Delete(base, key)
			delete(n.written, key)
		case i%50 == 24:
			err = n.c.Set(base, key, piece)
			n.written[key] = piece
		case i%500 == 0:
			err = n.check(base)
			start = time.Now() // check makes several requests, so do not count its duration
		case i%10 == 5:
			var v [][]byte
			if v, err = n.c.Get(base, key); err == nil && !bytes.Equal(v[0], n.written[key]) {
				err = fmt.Errorf("Get(%s) returned wrong data: %d bytes, want %d", key, len(v[0]), len(n.written[key]))
			}
		default:
			err = n.c.Append(base, partd.Entry{Key: key, Value: piece})
			n.written[key] = append(n.written[key], piece...)
		}
		if err != nil {
			return fmt.Errorf("operation %d: %w", n.operations, err)
		}
		n.waits = append(n.waits, time.Since(start))
		time.Sleep(rand.N(4 * time.Millisecond))
	}
	return nil
}

func (n *tenant) check(ctx context.Context) error {
	var keys []string
	for k, err := range n.c.Keys(ctx) {
		if err != nil {
			return err
		}
		keys = append(keys, k.Key)
	}
	values, err := n.c.Get(ctx, keys...)
	if err != nil {
		return err
	}
	for i, k := range keys {
		if !bytes.Equal(values[i], n.written[k]) {
			return fmt.Errorf("key %s has wrong data: %d bytes, want %d", k, len(values[i]), len(n.written[k]))
		}
	}
	if len(keys) != len(n.written) {
		return fmt.Errorf("the namespace has %d keys, want %d", len(keys), len(n.written))
	}
	return nil
}

// TestMixedLoad runs twelve users of twelve namespaces over TLS, most of them over connections that break. Only six
// namespaces are open at a time. Greedy peers use as many resources as they can, with and without credentials, and the
// server keeps reloading users and certificates. No change may be lost or applied twice. Users with reliable
// connections must be served within a second or, on a busy machine, within four times the wait measured on an idle
// server. The server must stay within its memory limit, its usage must not grow after the first third of the time, and
// it must recover at the end. PARTD_MIXED sets the duration; waits and usage are checked only if it is at least a
// minute.
func TestMixedLoad(t *testing.T) {
	require(t, runtime.GOOS == "linux", "Linux's /proc, to measure the server's resources")
	duration, greedy := 2*time.Second, 40
	if s := os.Getenv("PARTD_MIXED"); s != "" {
		duration = must.Get(time.ParseDuration(s))(t)
		greedy = 80
	}
	const tenants, reliable, memory = 12, 4, 256 << 20
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	ca := must.Get(nettest.NewAuthority(dir, "authority"))(t)
	pair := must.Get(ca.Issue("server", time.Hour*24, "127.0.0.1"))(t)
	options := func(name string) *remote.ClientOptions {
		_, token := addToken(t, dir, users, name, "--rights", "read,append,change", "--namespace", name)
		return &remote.ClientOptions{Namespace: name, Token: token, RetryFor: 10 * time.Minute, TLS: &tls.Config{RootCAs: ca.Pool}}
	}
	var clientOptions [tenants]*remote.ClientOptions
	for i := range clientOptions {
		clientOptions[i] = options(fmt.Sprint("job", i))
	}
	greedyOptions := options("greedy")
	p := startChild(t, "server", "--listen", "tls://127.0.0.1:0", "--store", "log:"+dir+"/data", "--memory", fmt.Sprint(memory), "--namespaces", "6",
		"--namespace-max-bytes", "128MiB", "--http", "127.0.0.1:0", "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--tokens-file", users)
	admin := adminURL(t, p)
	_, address := p.Address()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	proxy := must.Get(nettest.NewProxy("tcp", address, nettest.CutAnywhere))(t)
	defer proxy.Close() //nolint:errcheck // the connections break anyway
	all := make([]*tenant, tenants)
	for i := range all {
		url := address
		if i >= reliable {
			url = strings.TrimPrefix(proxy.URL(), "tcp://")
		}
		c, err := remote.Dial(ctx, "tls://"+url, clientOptions[i])
		for try := 0; err != nil && try < 100; try++ { // the proxy may also cut the first connection
			c, err = remote.Dial(ctx, "tls://"+url, clientOptions[i])
		}
		must.Do(t, err)
		all[i] = &tenant{c: c, written: map[string][]byte{}}
	}
	// The same load on another, idle server measures the machine's speed at the same time.
	quietServer := start(t, "--store", "log:"+t.TempDir())
	quietTenant := &tenant{c: dialServer(t, quietServer, "/job"), written: map[string][]byte{}}
	before := usageOf(t, p, admin)
	var wg sync.WaitGroup
	for i, n := range append(all, quietTenant) {
		wg.Go(func() {
			if err := n.runLoad(ctx); err != nil {
				t.Errorf("job%d: %v", i, err)
			}
		})
	}
	var rounds [len(greedyKinds)]atomic.Int64
	for i := range greedy {
		wg.Go(func() {
			for ctx.Err() == nil {
				beGreedyOverTLS(ctx, address, greedyOptions, i%len(rounds))
				rounds[i%len(rounds)].Add(1)
				time.Sleep(rand.N(200 * time.Millisecond))
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			_ = p.Signal(syscall.SIGHUP)
			time.Sleep(time.Second)
		}
	})
	time.Sleep(duration / 3)
	atThird := usageOf(t, p, admin)
	time.Sleep(duration - duration/3)
	final := usageOf(t, p, admin)
	cancel()
	wg.Wait()
	t.Logf("usage after a third of the time %+v, at the end %+v; %d connections were cut", atThird, final, proxy.Cuts())
	for i, kind := range greedyKinds {
		t.Logf("%6d greedy peers: %s", rounds[i].Load(), kind)
	}
	if duration >= time.Minute && (final.goroutines > 2*atThird.goroutines+500 || final.descriptors > atThird.descriptors+greedy || final.memory > atThird.memory+atThird.memory/2) {
		t.Error("the server's usage grew after the first third of the time")
	}
	var waits []time.Duration
	for i, n := range all {
		if err := n.check(t.Context()); err != nil {
			t.Errorf("job%d: wrong content at the end: %v", i, err)
		}
		if n.operations == 0 {
			t.Errorf("job%d completed no operation", i)
		}
		if i < reliable {
			waits = append(waits, n.waits...)
		}
		must.Do(t, n.c.Close())
	}
	p99 := percentiles(t, "users with reliable connections", waits)
	if quietP99 := percentiles(t, "a separate server", quietTenant.waits); duration >= time.Minute && p99 > max(time.Second, 4*quietP99) && !procs.RaceEnabled {
		t.Errorf("the p99 wait of users with reliable connections is %v, want at most %v", p99, max(time.Second, 4*quietP99))
	}
	if now, peak, err := procs.Memory(p.Pid()); err == nil {
		t.Logf("the server uses %d MiB, at its peak %d", now>>20, peak>>20)
		if peak > memory+memory/5+30<<20 && !procs.RaceEnabled {
			t.Errorf("the server used %d MiB at its peak, want at most a fifth and 30 MiB more than its limit of %d MiB", peak>>20, memory>>20)
		}
	}
	checkUsageRecovers(t, p, admin, before)
	stop(t, p)
	stop(t, quietServer)
}

func percentiles(t *testing.T, client string, waits []time.Duration) (p99 time.Duration) {
	slices.Sort(waits)
	p99 = waits[len(waits)*99/100]
	t.Logf("%s: %d operations, p50 %v, p99 %v, the longest %v", client, len(waits), waits[len(waits)/2], p99, waits[len(waits)-1])
	return p99
}

// greedyKinds lists what greedy peers do until they disconnect.
var greedyKinds = [...]string{"silence", "guessed tokens", "a full namespace", "slow readers", "sessions", "abandoned pops", "abandoned appends"}

// beGreedyOverTLS uses resources of the server as greedyKinds[kind] says.
func beGreedyOverTLS(ctx context.Context, address string, o *remote.ClientOptions, kind int) {
	ctx, cancel := context.WithTimeout(ctx, time.Second+rand.N(5*time.Second))
	defer cancel()
	url := "tls://" + address
	if kind == 0 { // a connection without TLS, or a silent connection with TLS
		if rand.IntN(2) == 0 {
			o = nil
		}
		if p, err := hostile.Dial(ctx, "tcp", address, time.Minute); err == nil {
			defer p.Close()
			if o == nil {
				_ = p.Raw([]byte("GET / HTTP/1.1\r\n"))
			}
			<-ctx.Done()
		}
		return
	}
	options := *o
	options.RetryFor = time.Second
	if kind == 1 {
		options.Token = "guess" + fmt.Sprint(rand.Uint64())
	}
	c, err := remote.Dial(ctx, url, &options)
	if err != nil {
		return
	}
	defer c.Close()
	value := make([]byte, 1<<20)
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprint("big", i%10)
		switch kind {
		case 2:
			if err := c.Append(ctx, partd.Entry{Key: key, Value: value}); errors.Is(err, syscall.EDQUOT) {
				_ = c.Drop(ctx)
			}
		case 3:
			r, err := c.Open(ctx, key)
			if err == nil {
				defer r.Close()
				_, _ = io.CopyN(io.Discard, r, 100)
			}
			time.Sleep(10 * time.Millisecond)
		case 4:
			if _, err := c.NewSession(ctx); err != nil {
				time.Sleep(10 * time.Millisecond)
			}
		default:
			pop, large := key+" popped", value
			if kind == 6 {
				large = make([]byte, 32<<20)
			}
			shortCtx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			if c.Append(shortCtx, partd.Entry{Key: pop, Value: large}) == nil {
				popCtx, cancelPop := context.WithTimeout(ctx, time.Millisecond)
				_, _ = c.Pop(popCtx, pop) // usually abandoned
				cancelPop()
			}
			cancel()
		}
	}
}
