package flightclient

import (
	"time"

	"google.golang.org/grpc/keepalive"
)

// FastKeepAlive makes later clients notice a silent server in 11 seconds. Pings cannot be more frequent.
func FastKeepAlive() (restore func()) {
	previous := keepAlive
	keepAlive = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second}
	return func() { keepAlive = previous }
}
