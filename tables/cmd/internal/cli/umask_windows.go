package cli

// restrictNewFiles does nothing, because new files have the permissions of their directory.
func restrictNewFiles() (restore func()) { return func() {} }
