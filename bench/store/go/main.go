// The store bench's workloads on etcd's own Go client, as GOPATH code for Debian's packages:
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build -o store main.go
//	./store <endpoint> <settings as JSON>
//
// Prints the figures as JSON. The workloads are those of work.ts, with a goroutine for each lane.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"math"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/clientv3"
	"go.etcd.io/etcd/clientv3/concurrency"
)

type settings struct {
	MeasureMs, ValueBytes, TasksPerValue, KeysPerTxn, MixedOperations, ReplayEvents, Leases int
}

var ctx = context.Background()

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func expect(what string, actual, wanted int64) {
	if actual != wanted {
		log.Fatalf("%s: %d, not %d", what, actual, wanted)
	}
}

// Runs lanes until the time is over; counts what ended within the measured part.
func inLanes(lanes, measureMs int, operation func(lane, index int)) (perSecond float64, latenciesMs []float64) {
	measure := time.Duration(measureMs) * time.Millisecond
	start := time.Now().Add(measure / 4)
	end := start.Add(measure)
	var wait sync.WaitGroup
	var lock sync.Mutex
	for lane := 0; lane < lanes; lane++ {
		wait.Add(1)
		go func(lane int) {
			defer wait.Done()
			var own []float64
			for index := 0; ; index++ {
				sent := time.Now()
				if !sent.Before(end) {
					break
				}
				operation(lane, index)
				if done := time.Now(); !done.Before(start) && done.Before(end) {
					own = append(own, float64(done.Sub(sent).Microseconds())/1000)
				}
			}
			lock.Lock()
			latenciesMs = append(latenciesMs, own...)
			lock.Unlock()
		}(lane)
	}
	wait.Wait()
	return float64(len(latenciesMs)) / measure.Seconds(), latenciesMs
}

func version(client *clientv3.Client, key string) int64 {
	answer, err := client.Get(ctx, key)
	check(err)
	if len(answer.Kvs) == 0 {
		return 0
	}
	return answer.Kvs[0].Version
}

func swaps(client *clientv3.Client, measureMs int, prefix string, keyCount int, value string) float64 {
	const lanes = 16
	var versions [lanes]int64
	keyOf := func(lane, key int) string { return fmt.Sprintf("%s/%d/%d", prefix, lane, key) }
	perSecond, _ := inLanes(lanes, measureMs, func(lane, index int) {
		var compares []clientv3.Cmp
		var puts []clientv3.Op
		for key := 0; key < keyCount; key++ {
			compares = append(compares, clientv3.Compare(clientv3.Version(keyOf(lane, key)), "=", int64(index)))
			puts = append(puts, clientv3.OpPut(keyOf(lane, key), value))
		}
		answer, err := client.Txn(ctx).If(compares...).Then(puts...).Commit()
		check(err)
		if !answer.Succeeded {
			log.Fatalf("%s: a compare failed that nobody can have spoiled", prefix)
		}
		versions[lane] = int64(index + 1)
	})
	for lane := 0; lane < lanes; lane++ {
		expect("version", version(client, keyOf(lane, keyCount-1)), versions[lane])
	}
	return perSecond
}

func mixed(client *clientv3.Client, set settings, value string) (writeMs, readMs float64) {
	const lanes = 100
	var lock sync.Mutex
	var wait sync.WaitGroup
	for lane := 0; lane < lanes; lane++ {
		wait.Add(1)
		go func(key string) {
			defer wait.Done()
			var writing, reading time.Duration
			for index := 1; index <= set.MixedOperations; index++ {
				start := time.Now()
				_, err := client.Put(ctx, key, value)
				check(err)
				written := time.Now()
				expect("version of "+key, version(client, key), int64(index))
				reading += time.Since(written)
				writing += written.Sub(start)
			}
			lock.Lock()
			defer lock.Unlock()
			writeMs += float64(writing.Microseconds()) / 1000
			readMs += float64(reading.Microseconds()) / 1000
		}(fmt.Sprintf("mixed/%d", lane))
	}
	wait.Wait()
	operations := float64(lanes * set.MixedOperations)
	return writeMs / operations, readMs / operations
}

// One session for each locker: a Mutex is reentrant within a session.
func locks(client *clientv3.Client, name string, lockers, shards, measureMs int) (float64, []float64) {
	sessions := make([]*concurrency.Session, lockers)
	for locker := range sessions {
		session, err := concurrency.NewSession(client)
		check(err)
		sessions[locker] = session
		defer session.Close()
	}
	holders := make([]int, shards)
	var guard sync.Mutex
	hold := func(shard, by int) {
		guard.Lock()
		defer guard.Unlock()
		holders[shard] += by
		if holders[shard] > 1 {
			log.Fatal("two hold one lock")
		}
	}
	return inLanes(lockers, measureMs, func(lane, index int) {
		shard := (lane*31 + index*17) % shards
		mutex := concurrency.NewMutex(sessions[lane], fmt.Sprintf("%s-%d", name, shard))
		check(mutex.Lock(ctx))
		hold(shard, 1)
		hold(shard, -1)
		check(mutex.Unlock(ctx))
	})
}

func keepalives(client *clientv3.Client, set settings) float64 {
	leases := make([]clientv3.LeaseID, set.Leases)
	for index := range leases {
		lease, err := client.Grant(ctx, 60)
		check(err)
		leases[index] = lease.ID
	}
	perSecond, _ := inLanes(set.Leases, set.MeasureMs, func(lane, _ int) {
		_, err := client.KeepAliveOnce(ctx, leases[lane])
		check(err)
	})
	return perSecond
}

func replay(client *clientv3.Client, set settings, value string) float64 {
	const keysPerTxn = 100
	var first int64
	for written := 0; written < set.ReplayEvents; written += keysPerTxn {
		var puts []clientv3.Op
		for key := 0; key < keysPerTxn; key++ {
			puts = append(puts, clientv3.OpPut(fmt.Sprintf("replay/%d", key), value))
		}
		answer, err := client.Txn(ctx).Then(puts...).Commit()
		check(err)
		if first == 0 {
			first = answer.Header.Revision
		}
	}
	start := time.Now()
	watching, stop := context.WithCancel(ctx)
	defer stop()
	seen := 0
	for answer := range client.Watch(watching, "replay/", clientv3.WithPrefix(), clientv3.WithRev(first)) {
		check(answer.Err())
		seen += len(answer.Events)
		if seen >= set.ReplayEvents {
			break
		}
	}
	expect("events", int64(seen), int64(set.ReplayEvents))
	return float64(seen) / time.Since(start).Seconds()
}

func main() {
	var set settings
	check(json.Unmarshal([]byte(os.Args[2]), &set))
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Args[1]}, DialTimeout: 5 * time.Second})
	check(err)
	value := strings.Repeat("x", set.ValueBytes)
	figures := map[string]float64{}
	packed := swaps(client, set.MeasureMs, "packed", 1, strings.Repeat(value, set.TasksPerValue))
	figures["packedTasksPerSecond"] = packed * float64(set.TasksPerValue)
	txns := swaps(client, set.MeasureMs, "txn", set.KeysPerTxn, value)
	figures["txn64KeysPerSecond"] = txns * float64(set.KeysPerTxn)
	written := make([]int64, 100)
	figures["putsPerSecond@100"], _ = inLanes(100, set.MeasureMs, func(lane, index int) {
		_, err := client.Put(ctx, fmt.Sprintf("put/%d", lane), value)
		check(err)
		written[lane] = int64(index + 1)
	})
	for lane, count := range written {
		expect("version of a put", version(client, fmt.Sprintf("put/%d", lane)), count)
	}
	figures["writeMeanMs@mixed100"], figures["readMeanMs@mixed100"] = mixed(client, set, value)
	figures["locksPerSecond@1"], _ = locks(client, "alone", 1, 1, set.MeasureMs)
	perSecond, latencies := locks(client, "one", 50, 1, set.MeasureMs)
	sort.Float64s(latencies)
	figures["locksPerSecond@50on1"] = perSecond
	figures["lockP99Ms@50on1"] = latencies[int(math.Floor(float64(len(latencies))*0.99))]
	figures["locksPerSecond@50on64"], _ = locks(client, "many", 50, 64, set.MeasureMs)
	figures["keepalivesPerSecond@100"] = keepalives(client, set)
	figures["watchReplayPerSecond"] = replay(client, set, value)
	check(client.Close())
	check(json.NewEncoder(os.Stdout).Encode(figures))
}
