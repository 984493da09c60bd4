package cli

// restrictNewFiles does nothing: new files have the permissions of their directory.
func restrictNewFiles() (restore func()) { return func() {} }
