package remote

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
)

// proxy forwards connections to a server, whose address may change, and cuts them.
type proxy struct {
	l      net.Listener
	target atomic.Pointer[string]
	// limit returns the number of bytes, in both directions together, after which the next connection is cut.
	limit func() int64
	cuts  atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func newProxy(t testing.TB, target string, limit func() int64) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{l: l, limit: limit, conns: map[net.Conn]struct{}{}}
	p.target.Store(&target)
	p.wg.Add(1)
	go p.accept()
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *proxy) url() string { return URL(p.l.Addr()) }

func (p *proxy) accept() {
	defer p.wg.Done()
	for {
		a, err := p.l.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", (*p.target.Load())[len("tcp://"):])
		if err != nil {
			_ = a.Close()
			continue
		}
		var remaining atomic.Int64
		remaining.Store(p.limit())
		p.mu.Lock()
		p.conns[a], p.conns[b] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Add(2)
		go p.forward(a, b, &remaining)
		go p.forward(b, a, &remaining)
	}
}

func (p *proxy) forward(src, dst net.Conn, remaining *atomic.Int64) {
	defer p.wg.Done()
	buf := make([]byte, 4<<10)
	for {
		n, err := src.Read(buf)
		if excess := remaining.Add(-int64(n)); excess < 0 {
			n = max(0, n+int(excess))
			if excess+int64(n) <= 0 {
				p.cuts.Add(1)
			}
			err = io.EOF
		}
		if _, writeErr := dst.Write(buf[:n]); writeErr != nil || err != nil {
			break
		}
	}
	_ = src.Close()
	_ = dst.Close()
	p.mu.Lock()
	delete(p.conns, src)
	p.mu.Unlock()
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}
