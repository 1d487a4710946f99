package zypper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"time"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// WriteRepositories writes into a tree the repositories that the image itself is to have, to /etc/zypp/repos.d, and their keys to /usr/lib/rpm/gnupg/keys.
// Secrets stay out of the image, and so do repositories that only this machine can read; the notes say so.
func WriteRepositories(edit *layers.Editor, set *repositories.Set, change repositories.Change) (notes []string, err error) {
	note := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	for _, r := range set.Image {
		file := "/etc/zypp/repos.d/" + r.Alias + ".repo"
		if r.Local != "" {
			note("repository %s is a directory of this machine and was not written into the image", r)
			continue
		}
		if r.User != "" || r.Password != "" {
			note("repository %s needs a user name and password, which were not written into the image; put them into a file in its /etc/zypp/credentials.d", r)
		}
		key := ""
		if i := slices.IndexFunc(set.Files, func(f sandbox.File) bool { return f.Path == r.KeyFile }); r.KeyFile != "" && i >= 0 {
			key = "/usr/lib/rpm/gnupg/keys/" + r.Alias + ".asc"
			if err := edit.WriteFile(key[1:], set.Files[i].Data, 0o644); err != nil {
				return nil, fmt.Errorf("writing the keys of repository %s into the image: %w", r, err)
			}
		}
		opts := sectionOptions{key: key, checkSignatures: true}
		if !r.IsList() {
			opts.addresses = []string{r.URI}
		}
		data, err := change(r, path.Base(file), section(r, opts))
		if err == nil {
			err = edit.WriteFile(file[1:], data, 0o644)
		}
		if err != nil {
			return nil, fmt.Errorf("writing repository %s into the image: %w", r, err)
		}
	}
	return notes, nil
}

// autoInstalled is where libzypp notes which packages came for others, below a comment with the time.
const autoInstalled = "var/lib/zypp/AutoInstalled"

// FixTime makes libzypp's note of the packages that came for others say that it was written at a time.
func FixTime(edit *layers.Editor, t time.Time) error {
	const limit = 16 << 20
	data, err := edit.ReadFile(autoInstalled, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what zypper has noted: %w", err)
	}
	const before = "# AutoInstalled generated "
	_, rest, found := bytes.Cut(data, []byte("\n"))
	if !found || !bytes.HasPrefix(data, []byte(before)) {
		return nil
	}
	text := before + t.UTC().Format("Mon Jan _2 15:04:05 2006") + "\n" + string(rest)
	if err := edit.WriteFile(autoInstalled, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing what zypper has noted: %w", err)
	}
	return nil
}
