package cliutil

import (
	"os"
	"os/signal"
	"syscall"
)

// OnHangup calls reload on each SIGHUP. Otherwise SIGHUP would end the process, and buffered data
// would be lost.
func OnHangup(reload func()) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			reload()
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
	}
}
