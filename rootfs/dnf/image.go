package dnf

import (
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// WriteRepositories writes into a tree the repositories that the image itself is to have, to /etc/yum.repos.d, and their keys to /etc/pki/rpm-gpg.
// Secrets stay out of the image, and so do repositories that only this machine can read; the notes say so.
func WriteRepositories(edit *layers.Editor, set *repositories.Set, change repositories.Change) (notes []string, err error) {
	return set.ForImage("/etc/yum.repos.d", func(r repositories.Repository) ([]string, error) {
		key := ""
		if keys := set.ArmoredKeys(r); keys != nil {
			key = "/etc/pki/rpm-gpg/RPM-GPG-KEY-" + r.Alias
			if err := edit.WriteFile(key[1:], keys, 0o644); err != nil {
				return nil, err
			}
		}
		data, err := change(r, r.Alias+".repo", section(r, r.URI, key, false))
		if err != nil {
			return nil, err
		}
		return nil, edit.WriteFile("etc/yum.repos.d/"+r.Alias+".repo", data, 0o644)
	})
}
