package nettest

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Proxy forwards connections to a server, and cuts them.
type Proxy struct {
	network  string
	address  atomic.Pointer[string] // of the server
	limit    func() int64
	listener net.Listener
	cuts     atomic.Int64
	silent   atomic.Bool

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

// NewProxy starts a proxy for the server at address, on a free port. limit returns the number of bytes, in
// both directions together, after which the proxy cuts the next connection.
func NewProxy(network, address string, limit func() int64) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{network: network, limit: limit, listener: l, conns: map[net.Conn]struct{}{}}
	p.Redirect(address)
	p.wg.Go(p.accept)
	return p, nil
}

// CutAnywhere is a limit that cuts connections at random bytes: during the handshake, or after up to 200,000 bytes.
func CutAnywhere() int64 {
	return rand.Int64N([]int64{400, 2000, 40_000, 40_000, 200_000}[rand.IntN(5)])
}

// CutNever is a limit that cuts no connection.
func CutNever() int64 { return 1 << 60 }

// URL returns the proxy's address as the URL of a server.
func (p *Proxy) URL() string { return "tcp://" + p.listener.Addr().String() }

// Redirect forwards later connections to the server at address.
func (p *Proxy) Redirect(address string) { p.address.Store(&address) }

// Cuts returns the number of connections that have reached their limit.
func (p *Proxy) Cuts() int64 { return p.cuts.Load() }

// Cut closes all connections.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close() // the other end may have closed it
	}
}

// Silence makes the proxy lose everything that it receives from now on, and keep its connections open.
func (p *Proxy) Silence() { p.silent.Store(true) }

// Close stops the proxy and closes its connections.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.Cut()
	p.wg.Wait()
	return err
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.forward(client) })
	}
}

func (p *Proxy) forward(client net.Conn) {
	defer client.Close()
	server, err := net.DialTimeout(p.network, *p.address.Load(), 10*time.Second)
	if err != nil { // the server is down
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = struct{}{}, struct{}{}
	p.mu.Unlock()
	var remaining atomic.Int64
	remaining.Store(p.limit())
	cut := sync.OnceFunc(func() {
		if p.cuts.Add(1)%2 == 0 { // reset every second connection instead of closing it
			for _, c := range []net.Conn{client, server} {
				if t, ok := c.(*net.TCPConn); ok {
					_ = t.SetLinger(0)
				}
			}
		}
	})
	var directions sync.WaitGroup
	directions.Go(func() { p.forwardBytes(server, client, &remaining, cut) })
	directions.Go(func() { p.forwardBytes(client, server, &remaining, cut) })
	directions.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// forwardBytes forwards bytes from src to dst until remaining is used up or a connection ends, and closes both. It
// calls cut if remaining is used up.
func (p *Proxy) forwardBytes(dst, src net.Conn, remaining *atomic.Int64, cut func()) {
	buf := make([]byte, 4<<10)
	for {
		n, err := src.Read(buf)
		if excess := remaining.Add(-int64(n)); excess < 0 {
			n = max(0, n+int(excess))
			cut()
			err = io.EOF
		}
		if p.silent.Load() {
			n = 0
		}
		if _, writeErr := dst.Write(buf[:n]); writeErr != nil || err != nil {
			break
		}
	}
	_ = src.Close()
	_ = dst.Close()
}
