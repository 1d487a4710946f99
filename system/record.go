package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/imgbuild/imgbuild/internal/logtext"
)

// record is the log of one build in a file beside its root tree, as KIWI keeps it.
type record struct {
	work *workplace
	file *os.File
	log  *slog.Logger // that of the job before
	job  *job
}

// record begins the log, from now on the job's log goes there too.
func (j *job) record(work *workplace) (*record, error) {
	file, err := os.Create(filepath.Join(work.dir, "log"))
	if err != nil {
		return nil, fmt.Errorf("beginning the log of the build: %w", err)
	}
	r := &record{work: work, file: file, log: j.Log, job: j}
	j.Log = slog.New(slog.NewMultiHandler(j.Log.Handler(), logtext.New(file, logtext.Options{Level: slog.LevelDebug, Times: true})))
	return r, nil
}

// close ends the log with how the build has ended. The log stays where there is or was a root tree, unless the user has ended the build.
func (r *record) close(ctx context.Context, err error) error {
	if err != nil {
		r.job.Log.Debug("the build has failed: " + err.Error())
	} else {
		r.job.Log.Debug("the build is done")
	}
	r.job.Log = r.log
	closeErr := r.file.Close()
	place := r.work.root
	if err != nil {
		place = r.work.unpackTo()
	}
	if _, statErr := os.Lstat(place); errors.Is(statErr, fs.ErrNotExist) || ctx.Err() != nil {
		return errors.Join(err, closeErr)
	}
	name := r.work.root + ".log"
	if renameErr := os.Rename(r.file.Name(), name); renameErr != nil || closeErr != nil {
		return errors.Join(err, closeErr, renameErr)
	}
	if err != nil {
		return fmt.Errorf("%w\nthe log of the build is %s", err, name)
	}
	return nil
}
