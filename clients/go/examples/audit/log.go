package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"

	"warp.example/hook/hookv1"
)

// More than the proxy can have unacknowledged from one worker (8,192), with room for many workers.
const rememberedIDs = 262_144

// auditLog is the file, which one process may have. Append may be called from several streams at once.
type auditLog struct {
	lock sync.Mutex
	file *os.File
	size int64
	ids  memory
}

// openLog opens or makes the file, reads the ids of its last lines and removes a last line that was cut.
func openLog(path string) (*auditLog, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	log := &auditLog{file: file, ids: newMemory(rememberedIDs)}
	if err := log.recover(); err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return log, nil
}

// Append writes those events that are new and forces them to the disk; it says how many that were. After an error nothing
// of the batch is there.
func (l *auditLog) Append(events []*hookv1.Event) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	var lines bytes.Buffer
	var ids []string
	inBatch := map[string]bool{}
	for _, event := range events {
		if l.ids.has(event.GetId()) || inBatch[event.GetId()] {
			continue
		}
		line, err := json.Marshal(describe(event))
		if err != nil {
			return 0, err
		}
		lines.Write(append(line, '\n'))
		inBatch[event.GetId()] = true
		ids = append(ids, event.GetId())
	}
	if len(ids) == 0 {
		return 0, nil
	}
	if err := l.write(lines.Bytes()); err != nil {
		return 0, err
	}
	for _, id := range ids {
		l.ids.add(id)
	}
	return len(ids), nil
}

// Close gives the file back.
func (l *auditLog) Close() error { return l.file.Close() }

func (l *auditLog) write(lines []byte) error {
	_, err := l.file.Write(lines)
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		if undo := l.file.Truncate(l.size); undo != nil {
			return fmt.Errorf("%w; and what was written stays: %w", err, undo)
		}
		return err
	}
	l.size += int64(len(lines))
	return nil
}

func (l *auditLog) recover() error {
	if err := syscall.Flock(int(l.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("in use by another process: %w", err)
	}
	reader := bufio.NewReader(l.file)
	for {
		line, err := reader.ReadBytes('\n')
		if err == io.EOF {
			return l.file.Truncate(l.size)
		}
		if err != nil {
			return err
		}
		var written struct{ ID string }
		if err := json.Unmarshal(line, &written); err != nil {
			return fmt.Errorf("octet %d: no line of an audit log: %w", l.size, err)
		}
		l.ids.add(written.ID)
		l.size += int64(len(line))
	}
}

// memory is the newest ids, in a ring.
type memory struct {
	known map[string]bool
	ring  []string
	next  int
}

func newMemory(size int) memory { return memory{known: map[string]bool{}, ring: make([]string, size)} }

func (m *memory) has(id string) bool { return m.known[id] }

func (m *memory) add(id string) {
	if m.known[id] {
		return
	}
	delete(m.known, m.ring[m.next])
	m.known[id] = true
	m.ring[m.next] = id
	m.next = (m.next + 1) % len(m.ring)
}
