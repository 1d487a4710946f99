package container

import (
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/inspect"
)

// checkStart warns of a program, a user and a group that the root tree does not have: engines refuse to start such a container. It is no error, since
// others may be given when it is started.
func checkStart(log *slog.Logger, tree *layers.Tree, config *v1.Config) {
	if line := slices.Concat(config.Entrypoint, config.Cmd); len(line) > 0 && !hasProgram(tree, line[0], config) {
		log.Warn("the root tree lacks the program that the container runs, so that it will not start", "program", line[0])
	}
	accounts, err := inspect.ReadAccounts(tree)
	if err != nil {
		log.Warn("the container's users can't be read, so that it may not start", "error", err)
		return
	}
	user, group, _ := strings.Cut(config.User, ":")
	for _, account := range []struct {
		kind, name string
		have       map[string]uint32
	}{{"user", user, accounts.Users}, {"group", group, accounts.Groups}} {
		if _, ok := account.have[account.name]; !ok && !isID(account.name) {
			log.Warn("the root tree lacks the "+account.kind+" that the container runs as, so that it will not start", account.kind, account.name)
		}
	}
}

// isID reports whether an account is given by its number, or not at all.
func isID(account string) bool {
	_, err := strconv.ParseUint(account, 10, 32)
	return err == nil || account == ""
}

// hasProgram reports whether a tree has the program that a container runs, in its PATH if the name has no slash.
func hasProgram(tree *layers.Tree, program string, config *v1.Config) bool {
	places := []string{path.Join(config.WorkingDir, program)}
	switch {
	case path.IsAbs(program):
		places[0] = program
	case !strings.Contains(program, "/"):
		places = nil
		for _, variable := range config.Env {
			if list, ok := strings.CutPrefix(variable, "PATH="); ok {
				for dir := range strings.SplitSeq(list, ":") {
					places = append(places, path.Join(dir, program))
				}
			}
		}
	}
	return slices.ContainsFunc(places, func(place string) bool {
		_, n, err := tree.Resolve(place)
		return err == nil && n.IsRegular()
	})
}
