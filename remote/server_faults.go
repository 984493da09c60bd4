package remote

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/server/zmtp"
	"github.com/go-partd/partd/storekit"
)

// logFault logs a failed request: at level ERROR if the store failed, or at peerLevel if the peer
// caused the failure.
func (c *conn) logFault(peerLevel slog.Level, message string, err error, more ...any) {
	level := slog.LevelError
	if isPeerFault(err) || c.server.base.Err() != nil {
		level = peerLevel
	} else {
		c.server.meters.storeErrors.Add(1)
	}
	if isCancelled(err) || errors.Is(err, errDenied) {
		level = slog.LevelDebug // the client disconnected, the server is stopping, or the refusal is already logged
	}
	c.server.opts.Logger.Log(context.Background(), level, message, append(more, "peer", peerName(c.nc), "error", err)...)
}

func isPeerFault(err error) bool {
	if isCancelled(err) {
		return true
	}
	if !errors.As(err, new(*partd.Error)) && (errors.Is(err, partd.ErrUnknownOutcome) || errors.As(err, new(*net.OpError))) {
		return true // a bare ErrUnknownOutcome: the result of a pop is no longer kept; a net.OpError: the connection broke
	}
	if errors.As(err, new(*limitError)) {
		return errors.Is(err, syscall.EDQUOT) // a full quota is the client's fault; a full disk is not
	}
	for _, e := range []error{
		ErrBadRequest, ErrBusy, ErrLost, partd.ErrTooLarge, zmtp.ErrTooLarge, errors.ErrUnsupported, errCommand, errFrames, errClose, errDenied,
		partd.ErrSessionExpired, partd.ErrSessionGap, partd.ErrSessionReused,
	} {
		if errors.Is(err, e) {
			return !errors.Is(err, partd.ErrUnknownOutcome)
		}
	}
	return false
}

// publicText removes the directories of the files in err from text, which is err's message or a
// part of that message. Clients must not see these directories; the log has the full paths.
func publicText(text string, err error) string {
	for _, path := range storekit.ErrorPaths(err) {
		for _, dir := range []string{path, filepath.Dir(path)} {
			if dir != "" && dir != "." && dir != "/" {
				text = strings.ReplaceAll(text, dir+"/", "")
			}
		}
		text = strings.ReplaceAll(text, path, publicPath(path))
	}
	return text
}

func publicPath(path string) string {
	if path == "" {
		return ""
	}
	return filepath.Base(path)
}
