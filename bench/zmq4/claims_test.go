package zmq4

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-zeromq/zmq4"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/remote"
)

// victimEnv is the environment variable that makes this program a server: zmq4's ROUTER or ours.
const victimEnv = "PARTD_ZMQ4_VICTIM"

// runVictim runs a server until standard input ends. It prints the server's address. For each line of
// input, it prints the number of bytes that the process has allocated since the start of the server.
func runVictim(kind string) int {
	var address string
	if kind == "zmq4" {
		router := zmq4.NewRouter(context.Background(), quietOptions...)
		if err := router.Listen("tcp://127.0.0.1:0"); err != nil {
			fmt.Println(err)
			return 1
		}
		address = router.Addr().String()
		go func() {
			for {
				_, _ = router.Recv()
			}
		}()
	} else {
		l, err := remote.Listen("tcp://127.0.0.1:0")
		if err != nil {
			fmt.Println(err)
			return 1
		}
		s, err := remote.NewServer(partd.NewDict(), nil)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		go func() { _ = s.Serve(context.Background(), l) }()
		address = l.Addr().String()
	}
	fmt.Println(address)
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	for line := ""; ; {
		if _, err := fmt.Scanln(&line); err != nil {
			return 0
		}
		runtime.ReadMemStats(&now)
		fmt.Println(now.TotalAlloc - before.TotalAlloc)
	}
}

// victim is a server in a separate process.
type victim struct {
	t       testing.TB
	address string
	in      io.Writer
	out     io.Reader
	exited  chan error
}

func startVictim(t testing.TB, kind string) *victim {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+kind)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	a := &victim{t: t, in: in, out: out, exited: make(chan error, 1)}
	go func() { a.exited <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	_, err = fmt.Fscanln(out, &a.address)
	must(t, err)
	return a
}

// claimSize announces a frame of size bytes and sends 8 of them.
func (a *victim) claimSize(size uint64) net.Conn {
	a.t.Helper()
	c, err := net.Dial("tcp", a.address)
	must(a.t, err)
	a.t.Cleanup(func() { _ = c.Close() })
	greeting := make([]byte, 64)
	greeting[0], greeting[9], greeting[10] = 0xff, 0x7f, 3
	copy(greeting[12:], "NULL")
	ready := "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
	_, err = c.Write(append(greeting, ready...))
	must(a.t, err)
	_, err = c.Write(append(binary.BigEndian.AppendUint64([]byte{2}, size), "\x00PD1\x05\x00\x00\x00"...))
	must(a.t, err)
	return c
}

// allocatedBytes returns the number of bytes that the victim has allocated since its start.
func (a *victim) allocatedBytes() (n uint64) {
	a.t.Helper()
	_, err := fmt.Fprintln(a.in, "?")
	must(a.t, err)
	_, err = fmt.Fscanln(a.out, &n)
	must(a.t, err)
	return n
}

// TestClaims shows why we have our own transport: zmq4 allocates the size that a header of 9
// bytes claims, and crashes if the allocation fails.
func TestClaims(t *testing.T) {
	for _, size := range []uint64{200 << 20, 1 << 30} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			theirs, ours := startVictim(t, "zmq4"), startVictim(t, "ours")
			theirs.claimSize(size)
			ours.claimSize(size)
			var allocated uint64
			for range 100 {
				if allocated = theirs.allocatedBytes(); allocated >= size {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
			if allocated < size {
				t.Errorf("zmq4 allocates only %d bytes for a header that claims %d; update docs/wire.md", allocated, size)
			}
			time.Sleep(200 * time.Millisecond) // enough time for our server to allocate
			if n := ours.allocatedBytes(); n > 1<<20 {
				t.Errorf("our server allocates %d bytes for a header that claims %d, want at most 1 MiB", n, size)
			} else {
				t.Logf("for a header that claims %d bytes, zmq4 allocates %d, our server %d", size, allocated, n)
			}
		})
	}
	for _, size := range []uint64{1 << 49, 1<<63 - 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			theirs, ours := startVictim(t, "zmq4"), startVictim(t, "ours")
			theirs.claimSize(size)
			select {
			case err := <-theirs.exited:
				t.Logf("the process of zmq4's ROUTER ended: %v", err)
				if err == nil || !strings.Contains(err.Error(), "exit status 2") {
					t.Errorf("the process of zmq4's ROUTER ended with %v, not with a panic; update docs/wire.md", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("zmq4's ROUTER now survives a header that claims a huge size; update docs/wire.md")
			}
			c := ours.claimSize(size)
			must(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
			if _, err := io.Copy(io.Discard, c); err != nil {
				t.Errorf("our server does not close the connection: %v", err)
			}
			if n := ours.allocatedBytes(); n > 1<<20 {
				t.Errorf("our server allocates %d bytes for a header that claims %d, want at most 1 MiB", n, size)
			}
		})
	}
}
