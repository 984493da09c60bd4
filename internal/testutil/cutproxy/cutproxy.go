// Package cutproxy is a test proxy that cuts connections after random numbers of bytes.
package cutproxy

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy forwards connections to a server. Until StopCutting is called, it resets or closes each
// connection after a random number of bytes in one direction.
type Proxy struct {
	network, address string // address of the server
	listener         net.Listener
	cuts             atomic.Int64
	isStopped        atomic.Bool

	mu    sync.Mutex
	rnd   *rand.Rand
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// New starts a proxy for the server at address, on a free port. seed determines the cuts.
func New(network, address string, seed uint64) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		network: network, address: address, listener: l,
		rnd: rand.New(rand.NewPCG(seed, 0)), conns: map[net.Conn]struct{}{},
	}
	p.wg.Go(p.accept)
	return p, nil
}

// URL returns the proxy's address as the URL of a server.
func (p *Proxy) URL() string { return "tcp://" + p.listener.Addr().String() }

// Cuts returns the number of connections cut so far.
func (p *Proxy) Cuts() int64 { return p.cuts.Load() }

// StopCutting lets all connections pass from now on.
func (p *Proxy) StopCutting() { p.isStopped.Store(true) }

// Close stops the proxy and closes its connections.
func (p *Proxy) Close() error {
	p.StopCutting()
	err := p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		_ = c.Close() // the other end may have closed it
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		p.wg.Go(func() { p.forward(client) })
	}
}

func (p *Proxy) forward(client net.Conn) {
	server, err := net.DialTimeout(p.network, p.address, 10*time.Second)
	if err != nil { // the server is down
		_ = client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	limit := []int64{200, 1000, 20_000, 20_000, 200_000}[p.rnd.IntN(5)] // the first 200 bytes are part of the handshake
	byteCount := p.rnd.Int64N(limit)                                    // number of bytes to forward before the cut
	countsReplies := p.rnd.IntN(2) == 0                                 // byteCount counts bytes from the server, not to the server
	isReset := p.rnd.IntN(2) == 0                                       // reset the connection instead of closing it
	p.mu.Unlock()
	var once sync.Once
	closeBoth := func(isPlanned bool) {
		once.Do(func() {
			if isPlanned {
				p.cuts.Add(1)
				if isReset {
					for _, c := range []net.Conn{client, server} {
						if t, ok := c.(*net.TCPConn); ok {
							_ = t.SetLinger(0) // makes Close reset the connection
						}
					}
				}
			}
			_ = client.Close()
			_ = server.Close()
		})
	}
	var directions sync.WaitGroup
	directions.Go(func() { closeBoth(p.copy(server, client, byteCount, !countsReplies)) })
	directions.Go(func() { closeBoth(p.copy(client, server, byteCount, countsReplies)) })
	directions.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// copy forwards bytes from src to dst. If mayCut is true, it stops after byteCount bytes, and returns
// true. If a connection ends first, it returns false.
func (p *Proxy) copy(dst, src net.Conn, byteCount int64, mayCut bool) bool {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if mayCut && int64(n) > byteCount && !p.isStopped.Load() {
			_, _ = dst.Write(buf[:byteCount])
			return true
		}
		byteCount = max(byteCount-int64(n), 0)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return false
			}
		}
		if err != nil {
			return false
		}
	}
}
