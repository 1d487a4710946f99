package dnf

import (
	"fmt"
	"slices"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// WriteRepositories writes into a tree the repositories that the image itself is to have, to /etc/yum.repos.d, and their keys to /etc/pki/rpm-gpg.
// Secrets stay out of the image, and so do repositories that only this machine can read; the notes say so.
func WriteRepositories(edit *layers.Editor, set *repositories.Set, change repositories.Change) (notes []string, err error) {
	for _, r := range set.Image {
		if r.Local != "" {
			notes = append(notes, fmt.Sprintf("repository %s is a directory of this machine and was not written into the image", r))
			continue
		}
		if r.User != "" || r.Password != "" {
			notes = append(notes, fmt.Sprintf("repository %s needs a user name and password, which were not written into the image; put them into its /etc/yum.repos.d/%s.repo", r, r.Alias))
		}
		key := ""
		if i := slices.IndexFunc(set.Files, func(f sandbox.File) bool { return f.Path == r.KeyFile }); r.KeyFile != "" && i >= 0 {
			key = "/etc/pki/rpm-gpg/RPM-GPG-KEY-" + r.Alias
			if err := edit.WriteFile(key[1:], set.Files[i].Data, 0o644); err != nil {
				return nil, fmt.Errorf("writing the keys of repository %s into the image: %w", r, err)
			}
		}
		data, err := change(r, r.Alias+".repo", section(r, r.URI, key, false))
		if err == nil {
			err = edit.WriteFile("etc/yum.repos.d/"+r.Alias+".repo", data, 0o644)
		}
		if err != nil {
			return nil, fmt.Errorf("writing repository %s into the image: %w", r, err)
		}
	}
	return notes, nil
}
