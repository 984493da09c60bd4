package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/testcert"
	"github.com/go-partd/partd/remote"
)

// startCuttingProxy forwards connections to an address, and cuts some of them.
func startCuttingProxy(t *testing.T, to string, cuts *atomic.Int64) (address string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				_ = in.Close()
				continue
			}
			closeBoth := func() {
				_ = in.Close()
				_ = out.Close()
			}
			cut := time.AfterFunc(100*time.Millisecond+rand.N(3*time.Second), func() {
				cuts.Add(1)
				closeBoth()
			})
			for from, to := range map[net.Conn]net.Conn{in: out, out: in} {
				go func() {
					_, _ = io.Copy(to, from)
					cut.Stop()
					closeBoth()
				}()
			}
		}
	}()
	return l.Addr().String()
}

// tenant uses a namespace, and knows its contents.
type tenant struct {
	c       *remote.Client
	written map[string][]byte
	waits   []time.Duration
	done    int
}

// runLoad appends, reads, lists, sets, deletes and drops until ctx ends.
func (n *tenant) runLoad(ctx context.Context) error {
	base := context.WithoutCancel(ctx)
	for ; ctx.Err() == nil; n.done++ {
		key := fmt.Sprint("key", rand.IntN(20))
		piece := fmt.Appendf(nil, "<%d:%s>", n.done, randomBytes(n.done, rand.IntN(2000)))
		start := time.Now()
		var err error
		switch i := n.done; {
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
			start = time.Now() // this operation consists of several requests
		case i%10 == 5:
			var v [][]byte
			if v, err = n.c.Get(base, key); err == nil && !bytes.Equal(v[0], n.written[key]) {
				err = fmt.Errorf("%s has %d bytes, want %d", key, len(v[0]), len(n.written[key]))
			}
		default:
			err = n.c.Append(base, partd.Entry{Key: key, Value: piece})
			n.written[key] = append(n.written[key], piece...)
		}
		if err != nil {
			return fmt.Errorf("operation %d: %w", n.done, err)
		}
		n.waits = append(n.waits, time.Since(start))
		time.Sleep(rand.N(4 * time.Millisecond))
	}
	return nil
}

// check compares the whole contents.
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
			return fmt.Errorf("%s has %d bytes, want %d", k, len(values[i]), len(n.written[k]))
		}
	}
	if len(keys) != len(n.written) {
		return fmt.Errorf("%d keys, want %d", len(keys), len(n.written))
	}
	return nil
}

// TestMixedLoad runs twelve users of twelve namespaces over TLS, mostly over connections that
// break. Only a few namespaces are open at a time. Greedy peers hold and send what they can, with and without
// credentials, and the server keeps reloading users and certificates. Nothing is lost or doubled.
// Users on good connections are served in time: within a second, or four times the wait at an
// idle server if the machine is busy. Usage at the end is no higher than after a third of the
// time. PARTD_MIXED is the time; waits are judged if it is a minute or more.
func TestMixedLoad(t *testing.T) {
	require(t, runtime.GOOS == "linux", "what a process holds is read from /proc")
	duration, greedy := 4*time.Second, 40
	if s := os.Getenv("PARTD_MIXED"); s != "" {
		var err error
		if duration, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
		greedy = 80
	}
	const tenants, direct = 12, 4
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	ca, err := testcert.New(dir, "authority")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue("server", time.Hour*24, "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	options := func(name string) *remote.ClientOptions {
		_, token := addToken(t, dir, users, name, "--rights", "read,append,change", "--namespace", name)
		return &remote.ClientOptions{Namespace: name, Token: token, RetryFor: 10 * time.Minute, TLS: &tls.Config{RootCAs: ca.Pool}}
	}
	var clientOptions [tenants]*remote.ClientOptions
	for i := range clientOptions {
		clientOptions[i] = options(fmt.Sprint("job", i))
	}
	ofGreedy := options("greedy")
	p := startChild(t, "server", "--listen", "tls://127.0.0.1:0", "--store", "log:"+dir+"/data", "--memory", "256MiB", "--namespaces", "6",
		"--namespace-max-bytes", "128MiB", "--http", "127.0.0.1:0", "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--tokens-file", users)
	admin := adminURL(t, p)
	_, address := p.Address()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var cuts atomic.Int64
	all := make([]*tenant, tenants)
	for i := range all {
		url := address
		if i >= direct {
			url = startCuttingProxy(t, address, &cuts)
		}
		c, err := remote.Dial(ctx, "tls://"+url, clientOptions[i])
		if err != nil {
			t.Fatal(err)
		}
		all[i] = &tenant{c: c, written: map[string][]byte{}}
	}
	// The same load on another, idle server measures the machine's speed at the same time.
	quietServer := start(t, "--store", "log:"+t.TempDir())
	elsewhere := &tenant{c: dialServer(t, quietServer, "/job"), written: map[string][]byte{}}
	before := usageOf(t, p, admin)
	var wg sync.WaitGroup
	for i, n := range append(all, elsewhere) {
		wg.Go(func() {
			if err := n.runLoad(ctx); err != nil {
				t.Errorf("job%d: %v", i, err)
			}
		})
	}
	var did [4]atomic.Int64
	for i := range greedy {
		wg.Go(func() {
			for ctx.Err() == nil {
				beGreedyOverTLS(ctx, address, ofGreedy, i%len(did))
				did[i%len(did)].Add(1)
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
	t.Logf("usage after a third of the time %+v, at the end %+v; %d connections were cut off; of the greedy %d waited, %d guessed, %d filled their namespace, %d read slowly",
		atThird, final, cuts.Load(), did[0].Load(), did[1].Load(), did[2].Load(), did[3].Load())
	if duration >= time.Minute && (final.goroutines > 2*atThird.goroutines+500 || final.descriptors > atThird.descriptors+greedy || final.memory > atThird.memory+atThird.memory/2) {
		t.Error("usage grows")
	}
	var waits []time.Duration
	for i, n := range all {
		if err := n.check(t.Context()); err != nil {
			t.Errorf("job%d, at the end: %v", i, err)
		}
		if n.done == 0 {
			t.Errorf("job%d did nothing", i)
		}
		if i < direct {
			waits = append(waits, n.waits...)
		}
		if err := n.c.Close(); err != nil {
			t.Error(err)
		}
	}
	p99 := percentiles(t, "those whose connections hold", waits)
	if machine := percentiles(t, "a separate server", elsewhere.waits); duration >= time.Minute && p99 > max(time.Second, 4*machine) && !withRace {
		t.Errorf("p99 is %v", p99)
	}
	checkReturns(t, p, admin, before)
	stop(t, p)
	stop(t, quietServer)
}

func percentiles(t *testing.T, client string, waits []time.Duration) (p99 time.Duration) {
	slices.Sort(waits)
	p99 = waits[len(waits)*99/100]
	t.Logf("%s: %d operations, p50 %v, p99 %v, the longest %v", client, len(waits), waits[len(waits)/2], p99, waits[len(waits)-1])
	return p99
}

// beGreedyOverTLS holds or sends as much as it can for a while.
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
	if kind == 2 {
		for i := 0; ctx.Err() == nil; i++ {
			if err := c.Append(ctx, partd.Entry{Key: fmt.Sprint("big", i%10), Value: make([]byte, 1<<20)}); errors.Is(err, syscall.EDQUOT) {
				_ = c.Drop(ctx)
			}
		}
		return
	}
	for ctx.Err() == nil {
		r, err := c.Open(ctx, fmt.Sprint("big", rand.IntN(10)))
		if err == nil {
			defer r.Close()
			_, _ = io.CopyN(io.Discard, r, 100)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
