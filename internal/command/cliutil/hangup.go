package cliutil

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// SignalContext returns a context that ends at SIGINT or SIGTERM. A second signal ends the process immediately.
func SignalContext() (ctx context.Context, stop context.CancelFunc) {
	ctx, stop = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// CatchHangups keeps SIGHUP from ending the process, which could lose data, until stop is called. After start is
// called, each SIGHUP calls reload. If a SIGHUP came earlier, start calls reload at once. A server calls CatchHangups
// first and start when it is ready.
func CatchHangups() (start func(reload func()), stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	start = func(reload func()) {
		go func() {
			for range hangups {
				reload()
			}
		}()
	}
	return start, func() {
		signal.Stop(hangups)
		close(hangups)
	}
}
