package cliutil

import (
	"os"
	"os/signal"
	"syscall"
)

// CatchHangups keeps SIGHUP from ending the process until stop is called, and returns a function that from then on calls
// reload after each SIGHUP, also after one that came before. A server calls CatchHangups first and start when it is
// ready, because data could be lost if SIGHUP ended it.
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
