package system

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The mark of a directory that may be emptied, by the Cache Directory Tagging Specification (bford.info/cachedir): backups leave such directories out.
const (
	cacheTag       = "CACHEDIR.TAG"
	cacheSignature = "Signature: 8a477f597d28d172789f06886806bc55"
)

// openCache makes the directory for packages if it is missing, marks it, and empties it where that is asked for.
func (j *job) openCache() error {
	if j.PackageCache == "" {
		return nil
	}
	err := os.MkdirAll(j.PackageCache, 0o755)
	if err == nil {
		err = unix.Access(j.PackageCache, unix.W_OK)
	}
	if err != nil && j.CacheIfPossible && !j.Offline {
		j.Log.Warn("downloaded packages are not kept", "cache", j.PackageCache, "error", err)
		j.PackageCache = ""
		return nil
	}
	if err != nil {
		return fmt.Errorf("making the package cache: %w; choose another with --package-cache", err)
	}
	entries, err := os.ReadDir(j.PackageCache)
	if err != nil {
		return fmt.Errorf("opening the package cache: %w", err)
	}
	tag := filepath.Join(j.PackageCache, cacheTag)
	text, err := os.ReadFile(tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("opening the package cache: %w", err)
	}
	switch marked := strings.HasPrefix(string(text), cacheSignature); {
	case marked && j.ClearCache:
		return j.emptyCache(entries)
	case marked:
		return nil
	case len(entries) > 0 && j.ClearCache:
		return fmt.Errorf("emptying the package cache %s: it was not made by imgbuild, as it has no %s; remove it yourself, or choose another with --package-cache", j.PackageCache, cacheTag)
	case len(entries) > 0: // somebody's directory, which stays unmarked
		return nil
	}
	if err := os.WriteFile(tag, []byte(cacheSignature+"\n# Packages that imgbuild has downloaded. Whatever is in this directory may be removed.\n"), 0o644); err != nil {
		return fmt.Errorf("making the package cache: %w", err)
	}
	return nil
}

func (j *job) emptyCache(entries []os.DirEntry) error {
	for _, e := range entries {
		if e.Name() == cacheTag {
			continue
		}
		if err := os.RemoveAll(filepath.Join(j.PackageCache, e.Name())); err != nil {
			return fmt.Errorf("emptying the package cache: %w", err)
		}
	}
	return nil
}
