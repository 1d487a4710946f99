package results

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// sumLine is a line as sha256sum writes and checks it.
func sumLine(sum, name string) string { return sum + "  " + name + "\n" }

// readSums returns the sums in a directory's SHA256SUMS by the names of its files; none if there is no such list.
func readSums(dir string) (map[string]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, SumsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the check sums of results: %w", err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(data)) {
		sum, name, ok := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		// One character says how sha256sum read the file: a space, or * for its bytes, which on Linux is the same.
		if !ok || len(sum) != sha256.Size*2 || len(name) < 2 || name[1:] != filepath.Base(name[1:]) {
			continue
		}
		sums[name[1:]] = strings.ToLower(sum)
	}
	return sums, nil
}

// olderSums returns the lines of the target's SHA256SUMS for files that are there and not replaced now.
func (s *Staging) olderSums(files []staged) ([]string, error) {
	sums, err := readSums(s.target)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		delete(sums, f.name)
	}
	var keep []string
	for name, sum := range sums {
		if _, err := os.Lstat(filepath.Join(s.target, name)); err == nil {
			keep = append(keep, sumLine(sum, name))
		}
	}
	slices.Sort(keep)
	return keep, nil
}

// ChangedError says that a result is not what the build wrote.
type ChangedError struct {
	Path      string
	Got, Want string // SHA-256, lower-case hexadecimal
}

// Error implements error.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("%s is damaged, or was changed after it was built: its SHA-256 is %s, and %s has %s; build it again, or put the new sum there if you want it as it is now",
		e.Path, e.Got, SumsFile, e.Want)
}
