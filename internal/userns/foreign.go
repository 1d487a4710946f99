package userns

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
)

// nobody is the owner that files seem to have whose owner has no id in a user namespace (kernel documentation, admin-guide/sysctl/fs: overflowuid).
const nobody = 65534

// WarnForeign warns of a root tree that is [Foreign]. The remedy says what else to begin with than the tree.
func WarnForeign(log *slog.Logger, tree, remedy string) error {
	foreign, err := Foreign(tree)
	if foreign {
		log.Warn("the root tree belongs to a user of this machine whom your subordinate ids have not, so that its files will belong to nobody; run this as its owner, or "+remedy, "tree", tree)
	}
	return err
}

// Foreign reports whether a directory belongs to a user who has no id in this process's user namespace, so that it and most likely all below it seem to belong to
// nobody. A directory that really belongs to nobody is not foreign.
func Foreign(dir string) (bool, error) {
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return false, fmt.Errorf("asking who owns %s: %w", dir, err)
	}
	if st.Uid != nobody {
		return false, nil
	}
	// Only the owner and who may act as the owner can open it so, and nobody can act as one who has no id here (open(2)).
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return false, unix.Close(fd)
	case errors.Is(err, unix.EPERM):
		return true, nil
	}
	return false, nil // reading it will say why it can't be read
}
