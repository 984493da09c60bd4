package serving

import "time"

// drainTime is how long a connection without a call stays open during a shutdown. Meanwhile, a client that reads from
// the connection learns that the server is stopping and makes no more calls.
const drainTime = 500 * time.Millisecond

// Drain repeatedly closes connections without a running call until stop is called. It also closes strangers'
// connections, even during a request. Otherwise, a shutdown would wait seconds for clients that send nothing.
func (c *Connections) Drain() (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(drainTime / 10)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.closeUnused()
			case <-done:
				return
			}
		}
	}()
	return func() { close(done) }
}

func (c *Connections) closeUnused() {
	var unused []*connection
	c.mu.Lock()
	for _, o := range c.open {
		if (o.calls == 0 || !o.isKnown) && time.Since(o.since) > drainTime {
			unused = append(unused, o)
			c.drop(o)
		}
	}
	c.mu.Unlock()
	for _, o := range unused {
		_ = o.Conn.Close() // the client may have disconnected
	}
}
