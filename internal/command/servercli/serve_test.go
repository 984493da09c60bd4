package servercli_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/hostile"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/remote"
)

// TestReady starts a server with several addresses and the default store. All addresses must be
// served, and a second server must not start with the same socket or store.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	cmd := command("server", "--listen", "tcp://127.0.0.1:0", "--listen", "tcp://[::1]:0", "--listen", "ipc://"+dir+"/s.sock", "--log-format", "json")
	cmd.Dir = dir
	p := must.Get(procs.StartServer(t.Context(), cmd, 3))(t)
	t.Cleanup(p.Kill)
	for i, url := range p.URLs {
		network, address := "tcp", strings.TrimPrefix(url, "tcp://")
		if i == 2 {
			network, address = "unix", strings.TrimPrefix(url, "ipc://")
		}
		peer := must.Get(hostile.Open(t.Context(), network, address, 10*time.Second))(t)
		must.Do(t, peer.Ask([]string{"ack"}, "append", "k", "v"))
		must.Do(t, peer.Close())
	}
	if info, err := os.Stat(dir + "/s.sock"); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("Stat of the socket = %v, %v, want permissions 0600", info, err)
	}
	if _, err := os.Stat(dir + "/partd-data/MANIFEST"); err != nil {
		t.Errorf("the default store was not created in the working directory: %v", err)
	}
	code, _, errs := runCommand(t, nil, "--listen", "ipc://"+dir+"/s.sock", "--store", "mem:")
	if code != 1 || !strings.Contains(errs, "in use") {
		t.Errorf("second server with the same socket: exit code %d, output %s, want 1 and \"in use\"", code, errs)
	}
	code, _, errs = runCommand(t, nil, "--listen", "tcp://127.0.0.1:0", "--store", "log:"+dir+"/partd-data")
	if code != 1 || !strings.Contains(errs, "partd-data") {
		t.Errorf("second server with the same store: exit code %d, output %s, want 1 and the store's name", code, errs)
	}
	stop(t, p)
	if _, err := os.Stat(dir + "/s.sock"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the server did not remove its socket: Stat returned %v", err)
	}
	for line := range strings.Lines(p.Stderr()) {
		if !strings.HasPrefix(line, `{"time":`) {
			t.Errorf("with --log-format json, the log has the line %q", line)
		}
	}
}

// TestEnvironment checks that environment variables set flags, and that the command line takes precedence.
func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	cmd := command("server", "--listen", "tcp://127.0.0.1:0")
	cmd.Env = append(cmd.Env, "PARTD_SERVER_LISTEN=tcp://0.0.0.0:0", "PARTD_SERVER_STORE=file:"+dir+"/data", "PARTD_SERVER_LOG_FORMAT=json",
		"PARTD_SERVER_MAX_MESSAGE=1MiB", "PARTD_SERVER_MAX_CONNECTIONS=1", "PARTD_SERVER_MEMORY=64MiB", "PARTD_SERVER_ALLOW_CLOSE=true",
		"PARTD_STORE=nonsense:")
	p := must.Get(procs.StartServer(t.Context(), cmd, 1))(t)
	t.Cleanup(p.Kill)
	peer := openPeer(t, p)
	network, address := p.Address()
	if second, err := hostile.Open(t.Context(), network, address, 10*time.Second); err == nil {
		second.Close()
		t.Error("with PARTD_SERVER_MAX_CONNECTIONS=1, the server served a second connection")
	}
	must.Do(t, p.Signal(syscall.SIGHUP)) // as at the end of a terminal
	waitFor(t, p, "SIGHUP: nothing to reload")
	must.Do(t, peer.Ask([]string{"ack"}, "append", "k", "v"))
	if text, err := os.ReadFile(dir + "/data/k"); err != nil || string(text) != "v" {
		t.Errorf("key k has the value %q (error %v), want v", text, err)
	}
	must.Do(t, peer.Ask([]string{"ack"}, "close"))
	if err := p.Wait(30 * time.Second); err != nil {
		t.Fatalf("the server did not end after the close request: %v\nserver log:\n%s", err, p.Stderr())
	}
	if !strings.HasPrefix(p.Stderr(), `{"time":`) {
		t.Errorf("the log is not in JSON: %q", p.Stderr())
	}
}

// TestSignalDrains checks that after a signal, the server finishes requests, keeps their data, and exits with 0.
func TestSignalDrains(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir() + "/data"
			// The buffer must be flushed to the directory before the server exits.
			p := start(t, "--store", "buffer+file:"+dir+"?memory=64MiB")
			peer := openPeer(t, p)
			acked := 0
			for i := range 1_000_000 {
				if i == 1000 {
					must.Do(t, p.Signal(sig))
				}
				if peer.Ask([]string{"ack"}, "append", "k", "x") != nil {
					break
				}
				acked++
			}
			if err := p.Wait(30 * time.Second); err != nil {
				t.Fatalf("the server did not end cleanly: %v\nserver log:\n%s", err, p.Stderr())
			}
			text, err := os.ReadFile(dir + "/k")
			if err != nil || len(text) != acked && len(text) != acked+1 {
				t.Errorf("%d appends were acknowledged, but the store has %d (error %v), want as many or one more", acked, len(text), err)
			}
			if acked < 1000 {
				t.Errorf("only %d appends were acknowledged, want at least 1000", acked)
			}
		})
	}
}

// TestSecondSignal checks that a second signal ends the process immediately, with the exit code
// that shells use. A second signal within a second must not count, because timeout(1) signals the
// process and then its group. An append that waits for a lock delays the effect of the first
// signal.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for sig, want := range map[syscall.Signal]int{syscall.SIGINT: 130, syscall.SIGTERM: 143} {
		t.Run(sig.String(), func(t *testing.T) {
			dir := t.TempDir() + "/data"
			p := start(t, "--store", "file:"+dir)
			lock := must.Get(os.Open(dir + "/.lock"))(t)
			defer lock.Close()
			must.Do(t, syscall.Flock(int(lock.Fd()), syscall.LOCK_EX))
			peer := openPeer(t, p)
			must.Do(t, peer.Ask([]string{"ack"}, "syn"))
			must.Do(t, peer.Send("append", "k", "v"))
			procs.WaitIdle(t, p.Pid()) // the request waits for the lock
			must.Do(t, p.Signal(sig))
			waitFor(t, p, "stopping")
			must.Do(t, p.Signal(sig))
			time.Sleep(1200 * time.Millisecond) // the next signal comes more than a second after the first
			if p.HasExited() {
				t.Fatalf("the server exited while a request was in progress: %s", p.Stderr())
			}
			must.Do(t, p.Signal(sig))
			var exit *exec.ExitError
			if err := p.Wait(time.Minute); !errors.As(err, &exit) || exit.ExitCode() != want {
				t.Errorf("after the second signal, the server exited with %v, want exit code %d", err, want)
			}
			if !strings.Contains(p.Stderr(), "second signal") {
				t.Errorf("the log does not mention the second signal: %s", p.Stderr())
			}
		})
	}
}

// TestStopTimeout checks that a server whose store does not answer exits within --stop-timeout.
func TestStopTimeout(t *testing.T) {
	store := start(t, "--store", "mem:")
	p := start(t, "--store", store.URL(), "--stop-timeout", "200ms")
	store.Kill()
	err := p.Stop(30 * time.Second)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(p.Stderr(), "--stop-timeout") {
		t.Errorf("the server exited with %v and the log %s, want exit status 1 and --stop-timeout", err, p.Stderr())
	}
}

// memoryAboveIdle is the maximum memory that the server may use for hostile peers, in addition to
// its idle usage. It equals --memory, which also limits the garbage collector. With a larger
// --memory, a busy machine might collect garbage too late.
const memoryAboveIdle = 64 << 20

// TestHostileConversations runs random conversations, while an honest peer must be served.
func TestHostileConversations(t *testing.T) {
	n := procs.Number(t, "PARTD_CONVERSATIONS", 4000)
	p := start(t, "--store", "log:"+t.TempDir()+"?memory=16MiB", "--memory", "64MiB", "--max-message", "1MiB")
	network, address := p.Address()
	idle, _, err := procs.Memory(p.Pid())
	if err != nil {
		t.Log(err)
	}
	seed := uint64(time.Now().UnixNano())
	target := &hostile.Target{Network: network, Address: address, Patience: 30 * time.Second}
	r, err := hostile.Run(t.Context(), target, int64(n), 16, seed, time.Second, nil)
	if err != nil {
		t.Fatalf("hostile.Run: %v; the server's log:\n%s", err, p.Stderr())
	}
	_, peak, err := procs.Memory(p.Pid())
	t.Logf("seed %d: %d conversations in %v; %d honest requests, the slowest three %v (longest stall of the machine: %v); memory %d MiB above %d MiB (%v)",
		seed, r.Conversations, r.Duration, r.HonestRequests, r.Slowest, r.LongestStall, (peak-idle)>>20, idle>>20, err)
	if err == nil && peak > idle+memoryAboveIdle && !procs.RaceEnabled {
		t.Errorf("the server used up to %d MiB, and %d MiB when idle, want at most %d MiB more", peak>>20, idle>>20, memoryAboveIdle>>20)
	}
	if r.HonestRequests == 0 || r.MissingValues > r.HonestRequests/100 {
		t.Errorf("of %d honest requests, %d returned no value, want at most 1 %%", r.HonestRequests, r.MissingValues)
	}
	stop(t, p)
}

// serverAt starts a server with a store at an address. It tries for ten seconds or longer, because another process may
// briefly use the port.
func serverAt(ctx context.Context, store, address string) (p *procs.Server, err error) {
	for range 200 {
		if p, err = procs.StartServer(ctx, command("server", "--store", store, "--listen", "tcp://"+address), 1); err == nil {
			return p, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

// check checks the store's content with a new client, over a direct connection.
func check(ctx context.Context, t *testing.T, f *fleet, url string) error {
	c := must.Get(remote.Dial(ctx, url, nil))(t)
	return errors.Join(f.check(ctx, c), c.Close())
}

// runWithKills kills the server of running clients, and returns an error if the store's content is wrong.
func runWithKills(t *testing.T, store, namespace string, kills int) error {
	ctx := boundedContext(t, 20*kills)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 1<<40))
	p := must.Get(serverAt(ctx, store, "127.0.0.1:0"))(t)
	_, address := p.Address() // the next servers use the same address
	defer func() { p.Kill() }()
	url := p.URL() + namespace
	f, err := newFleet(ctx, []string{url, url, url, url}, 2, seed)
	must.Do(t, err)
	stop, written := make(chan struct{}), make(chan error, 1)
	go func() { written <- f.write(ctx, stop) }()
	start := time.Now()
	for n := range kills {
		select {
		case err := <-written:
			return fmt.Errorf("seed %d, after %d kills: %w", seed, n, err)
		case <-time.After(time.Duration(rnd.Int64N(int64(150 * time.Millisecond)))):
		}
		p.Kill()
		if p, err = serverAt(ctx, store, address); err != nil {
			t.Fatalf("seed %d: after kill %d: %v", seed, n+1, err)
		}
	}
	time.Sleep(100 * time.Millisecond) // some changes follow the last kill
	close(stop)
	if err := <-written; err != nil {
		return fmt.Errorf("seed %d, after %d kills: %w", seed, kills, err)
	}
	f.close(t)
	t.Logf("seed %d: %d kills under 4 clients and %d changes, in %v", seed, kills, f.changes(), time.Since(start))
	return check(ctx, t, f, p.URL()+namespace)
}

// TestKillServer checks that changes are applied once and in order while the server is killed (SIGKILL).
func TestKillServer(t *testing.T) {
	t.Parallel()
	kills := procs.Kills(t, 10)
	for _, c := range []struct{ store, namespace string }{{"log:", ""}, {"log:", "/job7"}, {"file:", ""}} {
		t.Run(c.store+c.namespace, func(t *testing.T) {
			must.Do(t, runWithKills(t, c.store+t.TempDir()+"/data", c.namespace, max(1, kills/2)))
		})
	}
}
