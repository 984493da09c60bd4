package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/go-partd/partd"
)

// TestLargeChanges checks that changes over the message limit are sent in parts and applied
// atomically, and that changes that exceed the server's memory are refused.
func TestLargeChanges(t *testing.T) {
	ctx := context.Background()
	store := partd.NewDict()
	s, url := serve(t, store, &ServerOptions{Memory: 10 << 20, MaxMessage: 1 << 20})
	c := dial(t, url, nil)
	value := make([]byte, 3<<20)
	for i := range value {
		value[i] = byte(i * 7 >> 3)
	}
	var small []partd.Entry
	for i := range 20_000 {
		small = append(small, partd.Entry{Key: fmt.Sprint("k", i), Value: value[i : i+50]})
	}
	must(t, c.Append(ctx, append(small, partd.Entry{Key: "large", Value: value})...))
	must(t, c.Set(ctx, "set", value))
	for range 3 {
		if err := c.Append(ctx, entry("x", "1"), partd.Entry{Key: "large", Value: make([]byte, 6<<20)}); !errors.Is(err, partd.ErrTooLarge) {
			t.Errorf("Append of more than the server's memory = %v, want ErrTooLarge", err)
		}
	}
	must(t, c.Append(ctx, entry("large", "end")))
	v, err := c.Get(ctx, "k0", "large", "k19999", "set", "x")
	must(t, err)
	if !bytes.Equal(v[0], value[:50]) || !bytes.Equal(v[1], append(bytes.Clone(value), "end"...)) ||
		!bytes.Equal(v[2], value[19999:20049]) || !bytes.Equal(v[3], value) || len(v[4]) > 0 {
		t.Error("the values differ from the appended ones")
	}
	must(t, c.Close())
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		used := s.memoryUsed()
		if used == 0 {
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("%d bytes of memory were not released within 10 s", used)
		}
	}
}

// TestUploadLengthChanges checks that a part is refused if it claims another length of the upload
// than the first part, because the server has reserved memory for the first length. A part must also
// follow the previous part.
func TestUploadLengthChanges(t *testing.T) {
	s, err := NewServer(partd.NewDict(), nil)
	must(t, err)
	ours, theirs := net.Pipe()
	c := newConn(s, theirs, 1)
	must(t, c.upload.add(c, 1, 2, 0, []byte("a")))
	if err := c.upload.add(c, 1, 1<<20, 1, make([]byte, 1<<20-1)); !errors.Is(err, ErrBadRequest) {
		t.Errorf("add with another length = %v, want ErrBadRequest; the upload has %d bytes with %d charged", err, len(c.upload.body), s.memoryUsed())
	}
	must(t, c.upload.add(c, 2, 2, 0, []byte("ab"))) // another upload begins
	must(t, c.upload.add(c, 3, 4, 0, []byte("ab")))
	if err := c.upload.add(c, 3, 4, 3, []byte("d")); !errors.Is(err, ErrBadRequest) {
		t.Errorf("add of a part that leaves a gap = %v, want ErrBadRequest", err)
	}
	c.upload.drop(c)
	c.abort()
	must(t, ours.Close())
	must(t, s.Shutdown(t.Context()))
}

// TestStalledUpload checks that memory of a stalled upload is released even if its peer sends other requests.
func TestStalledUpload(t *testing.T) {
	ctx := context.Background()
	s, url := serve(t, partd.NewDict(), &ServerOptions{Memory: 4 << 20, MaxMessage: 1 << 20, StallTimeout: 300 * time.Millisecond})
	s.partTimeout = 0
	for range 2 {
		p := openPeer(t, url)
		part := newCall(opPart)
		part.u64(1)
		part.u64(2 << 20)
		part.u64(0)
		part.appendData(make([]byte, 1<<20-200))
		p.send(part.parts()...)
		go func() {
			ping := newCall(opPing)
			ping.number = 1
			for range 100 {
				if _, err := p.Write(joinBytes(ping.parts()...)); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		p.wantClosed()
	}
	c := dial(t, url, nil)
	must(t, c.Append(ctx, partd.Entry{Key: "k", Value: make([]byte, 15<<17)}))
}
