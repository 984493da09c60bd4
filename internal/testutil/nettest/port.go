package nettest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreePort returns a free TCP port, for a program that needs a number. The system gives ports below
// 32,768 neither to a listener that asks for any port nor to a client, so it is still free when the program starts.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(10_000 + rand.IntN(22_000))
		if l, err := net.Listen("tcp", ":"+port); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("100 random ports between 10,000 and 32,000 are in use")
	return ""
}
