package packages

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// ErrNotLocked is wrapped by the errors of [CheckLocked].
var ErrNotLocked = errors.New("build without --locked to make the lock file anew")

// CheckLocked compares packages that are to be installed with those of a lock. A package that is not in the lock, has another version or another
// content is an error that wraps [ErrNotLocked]. A nil lock allows everything.
func CheckLocked(locked, list []Package) error {
	if locked == nil {
		return nil
	}
	type key struct{ name, arch string }
	allowed := map[key][]Package{}
	for _, p := range locked {
		k := key{p.Name, p.Arch}
		allowed[k] = append(allowed[k], p)
	}
	var wrong []error
	for _, p := range list {
		if err := checkLocked(allowed[key{p.Name, p.Arch}], p); err != nil {
			wrong = append(wrong, err)
		}
	}
	return errors.Join(wrong...)
}

// checkLocked compares a package with those of the lock that have its name: kernels may be there in several versions.
func checkLocked(allowed []Package, p Package) error {
	if len(allowed) == 0 {
		return fmt.Errorf("package %s is not in the lock file: %w", p, ErrNotLocked)
	}
	for _, want := range allowed {
		if want.Version != p.Version {
			continue
		}
		if want.Checksum != "" && p.Checksum != "" && want.Checksum != p.Checksum {
			return fmt.Errorf("package %s has the checksum %s, but %s in the lock file; its repository has changed it without a new version: %w", p, p.Checksum, want.Checksum, ErrNotLocked)
		}
		return nil
	}
	return fmt.Errorf("package %s has another version than the lock file's %s: %w", p, allowed[0].Version, ErrNotLocked)
}

// Sum is the checksum of a file as [Package] has it: sha256:HEX.
func Sum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
