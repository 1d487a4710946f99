package zypper

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// WriteRepositories writes into a tree the repositories that the image itself is to have, to /etc/zypp/repos.d, and their keys to /usr/lib/rpm/gnupg/keys.
// Secrets stay out of the image, and so do repositories that only this machine can read; the notes say so.
func WriteRepositories(edit *layers.Editor, set *repositories.Set, change repositories.Change) (notes []string, err error) {
	return set.ForImage("/etc/zypp/credentials.d", func(r repositories.Repository) ([]string, error) {
		opts := sectionOptions{checkSignatures: true}
		if keys := set.ArmoredKeys(r); keys != nil {
			opts.key = "/usr/lib/rpm/gnupg/keys/" + r.Alias + ".asc"
			if err := edit.WriteFile(opts.key[1:], keys, 0o644); err != nil {
				return nil, err
			}
		}
		if !r.IsList() {
			opts.addresses = []string{r.URI}
		}
		data, err := change(r, r.Alias+".repo", section(r, opts))
		if err != nil {
			return nil, err
		}
		return nil, edit.WriteFile("etc/zypp/repos.d/"+r.Alias+".repo", data, 0o644)
	})
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
