package remote

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
)

// TestLargeMessagesTogether concurrently sends more large messages than fit in memory, some
// with one frame and some with many. Each must wait for its turn, and all must arrive.
func TestLargeMessagesTogether(t *testing.T) {
	log := newWarnings()
	store := partd.NewDict()
	_, url := serve(t, store, &ServerOptions{Memory: 16 << 20, MaxMessage: 8 << 20, StallTimeout: 20 * time.Second, Logger: slog.New(log)})
	value := make([]byte, 6<<20)
	frames := []string{"append"}
	for i := range 60 {
		frames = append(frames, fmt.Sprint("p", i), string(value[:100<<10]))
	}
	multiFrame := message(frames...)
	var wg sync.WaitGroup
	requireWithin(t, 15*time.Second, "all messages", func() error {
		for i := range 8 {
			wg.Go(func() {
				c := dial(t, url, nil)
				for range 3 {
					if err := c.Append(t.Context(), partd.Entry{Key: fmt.Sprint("k", i), Value: value}); err != nil {
						t.Error(err)
					}
				}
			})
			p := openPeer(t, url)
			wg.Go(func() {
				for range 3 {
					_, err := p.Write(multiFrame)
					must(t, err)
					p.wantBytes(acked)
				}
			})
		}
		wg.Wait()
		return nil
	})
	st, err := store.Stat(t.Context())
	if must(t, err); st.Bytes != 8*3*(6<<20+60*100<<10) {
		t.Errorf("the store has %d bytes, want %d", st.Bytes, 8*3*(6<<20+60*100<<10))
	}
	if n := log.count.Load(); n > 0 {
		t.Errorf("the server logged %d warnings, want none: connections may have been cut", n)
	}
}

// sendUnfinishedMessages fills a server's memory with messages that never end.
func sendUnfinishedMessages(t *testing.T, s *Server, url string, size int) {
	singleFrame := joinBytes(longHeader(0, uint64(size)), make([]byte, 100<<10))
	multiFrame := joinBytes(zmtp.AppendFrame(nil, []byte("append"), true), zmtp.AppendFrame(nil, []byte("k"), true), singleFrame)
	for i := range 2 * s.opts.Memory / int64(size) {
		p := openPeer(t, url)
		go p.Write([][]byte{singleFrame, singleFrame, singleFrame, multiFrame}[i%4]) // fails if the server closes the connection, which it may do
	}
	for begin := time.Now(); s.memoryUsed() < s.opts.Memory/2; time.Sleep(time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("unfinished messages hold %d bytes, want half of the memory", s.memoryUsed())
		}
	}
}

// TestUnfinishedMessages checks that clients are served while one peer holds all memory with
// unfinished messages: clients of another peer soon, and clients from the same address eventually.
func TestUnfinishedMessages(t *testing.T) {
	ctx := context.Background()
	s, url := serve(t, partd.NewDict(), &ServerOptions{Memory: 32 << 20, MaxMessage: 4 << 20})
	honest, sameAddress := dialFrom(t, url, "127.0.0.2"), dial(t, url, nil)
	large := partd.Entry{Key: "k", Value: make([]byte, 3<<20)}
	for range 3 {
		sendUnfinishedMessages(t, s, url, 3<<20)
		requireWithin(t, 2*time.Second, "an append by another peer", func() error { return honest.Append(ctx, large) })
		requireWithin(t, 2*time.Second, "a get by another peer", func() error { _, err := honest.Get(ctx, "k"); return err })
		requireWithin(t, 10*time.Second, "an append from the same address", func() error { return sameAddress.Append(ctx, large) })
	}
}
