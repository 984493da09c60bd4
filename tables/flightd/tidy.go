package flightd

import (
	"context"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
	"time"
)

// tidy collects while nothing is under way, where there is much to give back to the
// system, or where pieces of messages were lost with their streams, which count until
// then: Go alone does so every two minutes in an idle server.
func (s *Server) tidy(ctx context.Context) {
	const (
		look = 2 * time.Second
		kept = 64 << 20  // bytes beside what is in use
		lost = 512 << 10 // bytes of pieces; with no call there are none
	)
	tick := time.NewTicker(look)
	defer tick.Stop()
	size := []runtimemetrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	for least, again := int64(0), false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		runtimemetrics.Read(size)
		if now := int64(size[0].Value.Uint64() - size[1].Value.Uint64()); now < least+kept && s.memory.used.Load() < lost && !again || !s.idle() {
			continue
		}
		again = !again
		debug.FreeOSMemory()
		runtimemetrics.Read(size)
		least = int64(size[0].Value.Uint64() - size[1].Value.Uint64())
	}
}

// idle reports whether no call of Flight is under way, nor anything that reads or
// writes rows.
func (s *Server) idle() bool {
	queries, _ := s.queries.counts()
	puts, _ := s.puts.counts()
	s.conns.mu.Lock()
	defer s.conns.mu.Unlock()
	return s.conns.calls == 0 && queries+puts == 0
}
