package cliutil

import (
	"os"
	"os/signal"
	"syscall"
)

// CatchHangups keeps SIGHUP from ending the process until stop is called, because data could be lost. Once start is
// called, each SIGHUP calls reload. If a SIGHUP came before, start calls reload at once. A server calls CatchHangups
// first, and start when it is ready.
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
