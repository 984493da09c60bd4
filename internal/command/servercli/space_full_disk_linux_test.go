package servercli_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/disktest"
)

// TestDropFreesFullDisk drops a store on a full disk through its server. The drop is requested by a
// Go client that has made changes, by a new Go client, by a new Go client after a restart, or by a
// Python client. Then the store must accept changes, and a signal must end the server cleanly.
func TestDropFreesFullDisk(t *testing.T) {
	for _, scheme := range []string{"log:", "file:", "buffer+file:", "zstd+log:"} {
		for _, client := range []string{"client with a session", "new client", "new client after a restart", "Python"} {
			t.Run(scheme+"/"+client, func(t *testing.T) {
				t.Parallel()
				disk := disktest.Mount(t, "tmpfs", 40<<20)
				args := []string{"--store", scheme + disk + "/data", "--memory", "32MiB"}
				p := start(t, args...)
				ctx := boundedContext(t, 0)
				c := dialServer(t, p)
				var err error
				for i := 0; err == nil; i++ {
					err = c.Append(ctx, partd.Entry{Key: fmt.Sprint("k", i%100), Value: []byte(randomBytes(i, 50_000))})
				}
				if !errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), disk) {
					t.Fatalf("Append on a full disk: error %v, want ENOSPC without the store's directory", err)
				}
				logged := func() bool {
					log := p.Stderr()
					return strings.Contains(log, "level=ERROR") && strings.Contains(log, "no space left") && strings.Contains(log, disk+"/")
				}
				for i := 0; i < 1000 && !logged(); i++ {
					time.Sleep(10 * time.Millisecond)
				}
				if !logged() {
					t.Errorf("the log does not name the full disk: %s", p.Stderr())
				}
				disktest.Fill(t, disk)
				switch client {
				case "new client":
					c = dialServer(t, p)
				case "new client after a restart":
					p.Kill()
					p = start(t, args...)
					c = dialServer(t, p)
				}
				if client == "Python" {
					peer := openPeer(t, p)
					must(t, peer.Send("append", "k", string(randomBytes(0, 50_000))))
					if got, err := peer.Receive(); err != nil || len(got) != 1 || !strings.HasPrefix(got[0], "error: ") || !strings.Contains(got[0], "no space") {
						t.Errorf("append over the Python protocol = %.200q, %v, want an error about missing space", got, err)
					}
					if got, err := peer.Receive(); err != nil || len(got) != 1 || got[0] != "ack" {
						t.Errorf("after the error, the server sends %.200q, %v, want ack", got, err)
					}
					if err := peer.Ask([]string{"ack"}, "drop"); err != nil {
						t.Fatalf("drop over the Python protocol: %v\nserver log:\n%s", err, p.Stderr())
					}
				} else if err := c.Drop(ctx); err != nil {
					t.Fatalf("Drop: %v\nserver log:\n%s", err, p.Stderr())
				}
				if err := c.Append(ctx, partd.Entry{Key: "k", Value: []byte("v")}); err != nil {
					t.Errorf("Append after the drop: %v\nserver log:\n%s", err, p.Stderr())
				}
				if values, err := c.Get(ctx, "k", "k1"); err != nil || string(values[0]) != "v" || len(values[1]) > 0 {
					t.Errorf("Get(k, k1) after the drop = %.20q, %v, want v and an empty value", values, err)
				}
				stop(t, p)
			})
		}
	}
}
