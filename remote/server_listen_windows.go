package remote

import (
	"errors"
	"fmt"
	"os"
)

func makePrivate(uintptr) {}

func tryLock(*os.File) error {
	return fmt.Errorf("a Unix socket needs flock, which Windows lacks: listen on tcp://: %w", errors.ErrUnsupported)
}
